// A space in the segment, as the processes of its host use it: Linda's operations, each a hundred nanoseconds or so,
// with no daemon in between. Any number of threads may use one Store.
//
// source  Gelernter, "Generative communication in Linda", TOPLAS 7(1), 1985; collect: Butcher, Wood and Atkins, 1994.
#pragma once
#include <functional>

#include "tuplespace/store/encoding.hh"
#include "tuplespace/store/leases.hh"
#include "tuplespace/store/requests.hh"
#include "tuplespace/store/spaces_table.hh"
#include "tuplespace/store/transactions.hh"
#include "tuplespace/store/waiters.hh"
#include "tuplespace/store/watches.hh"

namespace godwit::store {

/// Of a tuple: when it came, by its age; when it goes, on the host's monotonic clock. 0: it is new; never.
struct Lifetime {
  uint64_t age = 0, due = 0;
  bool is_logged = false;  // the log has it (durability.hh)
};

/// Whose a taken tuple is then: a transaction's, a delivery's, or else the caller's for good.
struct Keeping {
  Transaction* transaction = nullptr;
  Time time{};
  std::optional<Delivery>* delivery = nullptr;
  Lifetime* lifetime = nullptr;  // not null: is told the tuple's
};

/// A watch, and how far its thread has got.
struct Watching {
  WatchRef watch;
  uint32_t owner = 0;  // whose it is
  uint64_t seen = 0, come = 0, missed = 0;
};

class Store {
 public:
  static Result<Store> open(const shared::Segment& segment, std::string_view name);
  static Result<Store> create(const shared::Segment& segment, std::string_view name, const SpaceOptions& options);

  /// Puts a tuple in. It is there when this returns.
  /// wait    for room, if the space is one that blocks when full; null: never.
  /// errors  no_space_on_device: the space or the segment is full; message_size: the tuple is too large;
  ///         timed_out; operation_canceled; identifier_removed: the space was dropped; and what Desk::of says.
  Result<void> out(TupleView tuple, const Wait* wait = nullptr);
  /// The same; the tuple is gone after that time, unless it is taken before.
  Result<void> out_for(Time time, TupleView tuple, const Wait* wait = nullptr);

  /// Puts a tuple in unless one is there that matches any of the templates; with instead, only if one is there, which it
  /// takes the place of. One moment for everybody.
  /// returns  whether it was put.
  /// errors   as out's without a wait.
  enum class Condition { kUnless, kInstead };
  Result<bool> out_if(Condition condition, std::span<const TemplateView> any_of, TupleView tuple);

  /// Puts several in: for everybody else at one moment, in that order. Who is killed in it has put in all or none.
  /// errors  as out's; nothing has changed then.
  Result<void> out_all(std::span<const Tuple> tuples, const Wait* wait = nullptr);

  /// Takes a tuple that matches any of the templates, the oldest there is, or the first that comes.
  ///
  /// wait      null: answers at once (inp).
  /// receive   is shown the tuple, which is still the space's: if it returns false, or the process dies in it, the
  ///           tuple goes back to where it was. It must not use the space, nor fork.
  /// returns   false: there was a moment during the call at which none was there.
  /// errors    as for out; message_size: a template has more fields than a tuple can have.
  using Receive = std::function<bool(TupleView)>;
  Result<bool> in(std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive);
  /// The same, leaving it there. A blocked rd is shown the first tuple that comes, also if a blocked in takes it.
  Result<bool> rd(std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive);

  /// As in: takes a tuple for that time (leases.hh). receive is shown it.
  /// returns  the delivery; nullopt: there was none, or receive left it.
  Result<std::optional<Delivery>> in_for(Time time, std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive);
  /// Of a delivery, by any thread. returns false: it is over.
  /// transaction: of the calling thread; then the tuple is gone once that commits.
  Result<bool> acknowledge(const Delivery& delivery, Transaction* transaction = nullptr);
  Result<bool> release(const Delivery& delivery, Time delay);
  Result<bool> extend(const Delivery& delivery, Time time);

  /// Begins an in or rd that the calling thread does not sleep in: a request of its own (requests.hh), which ends with it.
  /// ticket   when it began, on the processor's clock: its place in line.
  /// returns  its number. Once it is answered, the thread's bell rings and answered() names it.
  /// errors   as for in; no_space_on_device also when the thread has kRequests of them.
  Result<uint32_t> request(Verb verb, std::span<const TemplateView> any_of, uint64_t ticket);
  /// Shows what has answered a request of the calling thread, which is over then.
  /// returns  whether receive took the tuple, or it went back; nullopt: it is not answered yet, and goes on.
  /// errors   of the space; the request is over.
  Result<std::optional<bool>> receive(uint32_t request, const Receive& receive, const Keeping& keeping = {});
  /// Ends it. What has answered it meanwhile goes back.
  void withdraw(uint32_t request);

  /// Ends a transaction of the calling thread, which may then be used again: all of it happens at one moment.
  /// errors   those of store::commit; the transaction is as it was.
  static Result<void> commit(const shared::Segment& segment, Transaction& transaction);
  /// Commits if, at that moment, none is in this space that matches (kUnless), or one is (kInstead), which it takes then.
  /// returns  whether it has happened; if not, the transaction is as it was.
  Result<bool> commit_if(Condition condition, std::span<const TemplateView> any_of, Transaction& transaction);

  /// How many match any of them, at one moment.
  Result<uint64_t> count(std::span<const TemplateView> any_of);

  /// The same within a transaction of the calling thread (transactions.hh). What is put comes when it commits; it does not
  /// wait for room. What is taken is back if it does not. The transaction sees what it has put, after what is in the space.
  /// lifetime: one that was taken before comes back to its place, also into a full space; a mortal one goes at its time.
  Result<void> out_within(Transaction& transaction, TupleView tuple, const Lifetime& lifetime = {});
  Result<bool> in_within(Transaction& transaction, std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive);
  /// The same without a wait; tells the tuple's lifetime.
  Result<bool> inp_within(Transaction& transaction, std::span<const TemplateView> any_of, const Receive& receive, Lifetime* lifetime);
  Result<bool> rd_within(Transaction& transaction, std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive);
  Result<uint64_t> count_within(const Transaction& transaction, std::span<const TemplateView> any_of);

  /// All that match any of the templates, or all there are if there are none, at one moment, oldest first.
  Result<std::vector<Tuple>> all(std::span<const TemplateView> any_of);

  /// Moves (or copies) all that match to the end of another space, oldest first: for everybody else at one moment.
  /// Who is killed in it has moved all or none, once his thread is reaped. returns how many.
  /// errors  also no_space_on_device: nothing has changed.
  Result<uint64_t> collect(Store& to, std::span<const TemplateView> any_of);
  Result<uint64_t> copy_collect(Store& to, std::span<const TemplateView> any_of);

  /// Begins to watch what comes: every tuple that matches, from now on. The watch is the calling thread's, and ends with it.
  /// errors  no_space_on_device, also when a space is watched by 16 already.
  Result<Watching> watch(std::span<const TemplateView> any_of);
  /// Shows the next tuple that has come. returns false: none has yet, and wait is null.
  Result<bool> next(Watching& watching, const Wait* wait, const std::function<void(TupleView)>& show);
  void end_watch(const Watching& watching);
  /// Whether next() may have something to show. A watch also rings the requests' bell of its thread (requests.hh).
  bool has_come(const Watching& watching) const;

  /// Whether what is done here is on disk before it is acknowledged (durability.hh).
  bool is_durable() const { return root_->keeps.load(std::memory_order_relaxed) == Keeps::kAll; }
  /// Whether an out that finds no room waits for it, if it may.
  bool waits_for_room() const { return root_->blocks_when_full; }
  /// Whether it is the space still that was opened; a damaged one is.
  bool is_open() const { return root_->generation.load() == generation_; }
  const shared::Segment& segment() const { return segment_; }

 private:
  Store(const shared::Segment& segment, Root* root, uint32_t generation) : segment_(segment), root_(root), generation_(generation) {}
  template <class T, class F>
  Result<T> work(F f);
  std::optional<Error> closed() const;
  template <class T, class F>
  Result<T> durably(Desk& desk, F f);
  template <class T>
  Result<T> shown(Desk& desk, Result<T> what) const;
  template <class F>
  Result<void> until_there_is_room(const Wait* wait, F f);
  Result<void> put(TupleView tuple, std::optional<uint64_t> due, const Wait* wait);
  std::optional<Error> put_once(Desk& desk, uint32_t stripe, TupleView tuple, uint64_t length, std::optional<uint64_t> due);
  Result<bool> put_if(Desk& desk, Condition condition, std::span<const TemplateView> any_of, TupleView tuple);
  Result<bool> put_if_durably(Desk& desk, Condition condition, std::span<const TemplateView> any_of, TupleView tuple);
  std::optional<Error> put_all_once(Desk& desk, std::span<const Tuple> tuples);
  Result<bool> get(Verb verb, std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive, const Keeping& keeping = {});
  Result<bool> get_once(Desk& desk, Verb verb, std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive,
                        const Keeping& keeping);
  Result<std::optional<bool>> receive_once(Desk& desk, uint32_t request, const Receive& receive, const Keeping& keeping);
  enum class Seen { kNone, kGot, kCopied };
  Result<Seen> look(Desk& desk, Waiter& waiter, NewWait& wanted, bool waits, std::string* copied);
  std::optional<Error> look_at_watch(Desk& desk, Watching& watching, uint32_t* bell) const;
  Result<uint64_t> gather(Store& to, std::span<const TemplateView> any_of, bool copies);
  Result<uint64_t> gather_durably(Desk& desk, Store& to, std::span<const TemplateView> any_of, bool copies);
  std::optional<Error> lacks_room_for(Desk& desk, const std::vector<Ref>& tuples);
  void begin_chain(Desk& desk, bool copies) const;
  bool chain(Desk& desk, const std::vector<Ref>& tuples, bool copies);
  bool write_chain(Desk& desk, std::span<const Tuple> tuples, std::vector<Ref>* written);
  void receive_chain(Desk& desk);

  shared::Segment segment_;
  Root* root_;
  uint32_t generation_;
};

}  // namespace godwit::store
