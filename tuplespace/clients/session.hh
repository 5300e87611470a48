// A session of a client: which of its requests were begun, what became of them, and what it has besides.
#pragma once
#include <chrono>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tuplespace/clients/message.hh"
#include "tuplespace/clients/registry.hh"
#include "tuplespace/store/store.hh"

namespace godwit::clients {

using Clock = std::chrono::steady_clock;

/// What all sessions of one key use.
struct Usage {
  double tokens = 0;     // requests that may be done now; below 0: beyond the rate
  Clock::time_point counted;
  uint64_t memory = 0;   // bytes
  uint64_t waiters = 0;  // and what else counts as such
  uint64_t sessions = 0;
  std::deque<std::string> over;  // sessions, longest ago first
};

struct Session;
using Timers = std::multimap<Clock::time_point, std::pair<Session*, uint64_t>>;  // requests, by when their time is over

/// What a request waits for.
struct Waiting {
  Op op;
  std::string space{};
  std::optional<store::Store> store{};   // whose request it is
  uint32_t request = 0;                  // 0: of none
  Milliseconds lease{};                  // of a lease: for how long
  uint64_t transaction = 0;              // of an in or rd within one
  uint64_t watch = 0;                    // of a next
  std::vector<Tuple> tuples{};           // of an out that waits for room
  std::vector<Template> wanted{};        // of an in or rd of net
  uint64_t memory = 0;                   // of those
  uint64_t due = 0;                      // of those
  std::optional<Timers::iterator> timer{};
};

/// A request that was begun and whose answer is not confirmed; or several in a row that came to the same.
struct Slot {
  Body answer;                       // empty: it has none yet
  uint64_t record = 0;               // that has the answer, by its serial; 0: none
  bool taken = false;                // the ledger has the tuple that is its answer
  bool open = false;                 // the ledger says that it is open
  std::unique_ptr<Waiting> waiting;
  uint64_t more = 0;                 // requests behind the first; 0 of one that has taken, is open or waits

  bool is_done() const { return !answer.empty(); }
  uint64_t memory() const { return (1 + more) * (sizeof(Slot) + answer.size()); }  // as if each had its own
};

/// Numbers of requests in a row.
struct Run {
  uint64_t first, last;
};

/// The slots of a session, by the number of their first request.
class Slots {
 public:
  using iterator = std::map<uint64_t, Slot>::iterator;
  iterator begin() { return slots_.begin(); }
  iterator end() { return slots_.end(); }
  bool empty() const { return slots_.empty(); }
  iterator erase(iterator slot) { return slots_.erase(slot); }

  /// That which the request is in; null: none.
  Slot* find(uint64_t number) {
    auto behind = slots_.upper_bound(number);
    if (behind == begin()) return nullptr;
    auto& [first, slot] = *std::prev(behind);
    return number - first <= slot.more ? &slot : nullptr;
  }
  /// The request's own.
  Slot& operator[](uint64_t number) {
    auto [own, behind] = of({number, number});
    return own != behind ? own->second : slots_.emplace_hint(behind, number, Slot())->second;
  }
  /// Those of these requests and no others, up to the second.
  std::pair<iterator, iterator> of(Run run) {
    auto first = cut(run.first);
    return {first, cut(run.last + 1)};
  }

 private:
  // The first slot from that number on. What goes on there from before is two from now on.
  iterator cut(uint64_t number) {
    auto behind = slots_.lower_bound(number);
    if (behind == begin()) return behind;
    auto& [first, slot] = *std::prev(behind);
    if (number - first > slot.more) return behind;
    Slot rest{slot.answer, slot.record, false, false, nullptr, first + slot.more - number};
    slot.more = number - first - 1;
    return slots_.emplace_hint(behind, number, std::move(rest));
  }

  std::map<uint64_t, Slot> slots_;
};

struct Session {
  std::string id;
  std::string key;
  std::shared_ptr<const Client> client;  // null: its key is not known any more
  std::shared_ptr<Usage> usage;
  std::string route;                     // where its last message came from; empty: nowhere yet
  Clock::time_point heard;
  std::list<Session*>::iterator place;   // among all, by when they were heard
  uint64_t floor = 1, begun = 0;
  uint64_t recovered = 0;                // begun by an earlier node up to here
  std::set<uint64_t> to_begin_again;     // of those, that are open
  Slots slots;
  uint64_t serial = 0;                   // of the last record
  std::map<uint64_t, uint64_t> records;  // by serial: answers in it that are not confirmed
  std::vector<uint64_t> to_open;         // that the ledger does not know yet to be open
  std::vector<Run> to_send;
  bool is_ending = false;                // as soon as all answers are sent
  uint64_t unwritten = 0;                // number of the record that must be on disk before anything is sent
  std::deque<std::string> backlog;       // messages, until the key's rate allows them
  std::map<uint64_t, store::Transaction*> transactions;
  struct Leased {
    store::Store store;
    store::Delivery delivery;
    Clock::time_point until;
  };
  std::map<uint64_t, Leased> leases;
  struct Watch {
    store::Store store;
    store::Watching watching;
  };
  std::map<uint64_t, Watch> watches;
};

}  // namespace godwit::clients
