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

/// A request that was begun and whose answer is not confirmed.
struct Slot {
  Body answer;                       // empty: it has none yet
  uint64_t record = 0;               // that has the answer, by its serial; 0: none
  bool taken = false;                // the ledger has the tuple that is its answer
  bool open = false;                 // the ledger says that it is open
  std::unique_ptr<Waiting> waiting;

  bool is_done() const { return !answer.empty(); }
  uint64_t memory() const { return sizeof(Slot) + answer.size(); }
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
  std::map<uint64_t, Slot> slots;
  uint64_t serial = 0;                   // of the last record
  std::map<uint64_t, uint64_t> records;  // by serial: answers in it that are not confirmed
  std::vector<uint64_t> to_open;         // that the ledger does not know yet to be open
  std::vector<uint64_t> to_send;
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
