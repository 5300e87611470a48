// What of sessions outlives the node: tuples of the space ".sessions", which change in one transaction with what a request does.
//
//   (SESSION, SERIAL, KEY, BEGUN, FLOOR, ANSWERS)        one for each such transaction: all requests up to BEGUN were begun, the
//                                                        client has the answers below FLOOR; ANSWERS it may not have yet
//   (SESSION, NUMBER, SPACE, AGE, DUE, TUPLE)            a tuple that a request has taken; its answer is not confirmed
//   (SESSION, NUMBER, "open")                            a request that was begun and has done nothing yet
//   (SESSION, "over", KEY)                               for a time, so that what comes late begins no session anew
// The last record of a session stays, for it says BEGUN and FLOOR. Of a request up to BEGUN that is neither answered here nor
// open, the client has the answer; or it was one that only looks, and may be begun again.
//
// Of one thread: the one that opens it.
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/store/store.hh"

namespace godwit::clients {

inline constexpr std::string_view kSessionsSpace = ".sessions";
/// That a session is over is remembered for longer than anything that was sent in it can be on its way.
inline constexpr auto kOverFor = std::chrono::hours(1);

struct Kept {
  std::string space;
  store::Lifetime lifetime;
  Tuple tuple;
};

/// A session that an earlier node has left.
struct Left {
  struct Record {
    uint64_t serial;
    std::string answers;
  };
  std::string key;
  uint64_t begun = 0, floor = 0;
  std::vector<Record> records;  // by serial
  std::map<uint64_t, Kept> taken;
  std::vector<uint64_t> open;
  bool over = false;
};

class Ledger {
 public:
  static Result<Ledger> open(const shared::Segment& segment);

  /// What is in it happens with commit(), or not at all. Never null.
  store::Transaction& transaction() { return *transaction_; }
  /// errors: those of Store::commit; nothing has happened then, and the transaction is empty.
  Result<void> commit();
  void roll_back();

  // Within the transaction, or another of this thread.
  struct Record {
    std::string_view session;
    uint64_t serial;
    std::string_view key;
    uint64_t begun, floor;
    std::string_view answers;
  };
  Result<void> put_record(store::Transaction& transaction, const Record& record);
  Result<void> drop_record(store::Transaction& transaction, std::string_view session, uint64_t serial);
  Result<void> put_taken(std::string_view session, uint64_t number, std::string_view space, const store::Lifetime& lifetime,
                         const Tuple& tuple);
  /// nullopt: there is none.
  Result<std::optional<Kept>> drop_taken(std::string_view session, uint64_t number);
  Result<void> put_open(std::string_view session, uint64_t number);
  Result<void> drop_open(std::string_view session, uint64_t number);

  /// Not within the transaction.
  Result<void> note_over(std::string_view session, std::string_view key);
  Result<void> forget_over(std::string_view session);
  Result<std::map<std::string, Left>> read();

 private:
  Ledger(const shared::Segment& segment, store::Store store, store::Transaction* transaction)
      : segment_(segment), store_(std::move(store)), transaction_(transaction) {}
  Result<void> put(store::Transaction& transaction, std::initializer_list<FieldView> fields);
  Result<bool> drop(store::Transaction& transaction, std::initializer_list<PatternView> wanted, const store::Store::Receive& receive);

  shared::Segment segment_;
  store::Store store_;
  store::Transaction* transaction_;
};

}  // namespace godwit::clients
