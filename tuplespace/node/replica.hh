// This node's copy of the directory, and the way of a command into the log.
//
// The community's first node has the log. It gathers commands into batches, and applies each batch when
// it is committed. The others fetch batches by index in a long poll, apply the next one only, take a
// snapshot when they are too far behind, and keep a file of their state, so that reads go on while the
// first node, or they themselves, are away.
//
// What must stay true: a submit's callback runs once, after its command is applied here as well, so the
// submitter reads what it wrote. A command is sent with the same (session, sequence) until an answer
// comes or its deadline passes. A timed out command may still happen until a barrier has passed: the
// barrier's floor bars it.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tuplespace/node/directory.hh"
#include "tuplespace/node/home.hh"
#include "tuplespace/node/local_log.hh"
#include "tuplespace/node/loop.hh"
#include "tuplespace/node/peers.hh"

namespace godwit {

inline constexpr auto kSubmitPatience = std::chrono::seconds(5);

class Replica {
 public:
  Replica(Loop& loop, RpcServer& server, Peers& peers, const Home& home);
  ~Replica();

  /// The log is here.
  Result<void> open_as_first(uint64_t community);
  /// The log is on the node at `address`; its community is `community`. Reads come from the file.
  Result<void> open_as_follower(uint64_t community, std::string address);
  /// The first node has started anew, perhaps elsewhere: asks it at once for what was missed.
  void first_is_back(std::string address);
  const std::string& first_address() const { return first_address_; }

  /// Enters this host, whose incarnation is the session of all later submits. Followers start to fetch.
  void join(const HostEntry& self, std::function<void(Result<void>)> callback, Deadline deadline);
  void save();  // the follower's file, now

  using Submitted = std::function<void(Result<Packed>)>;
  /// Errors: the command's; host_unreachable: the first node is away, and the command may have happened
  /// or may yet happen until a read_barrier has succeeded.
  void submit(DirectoryCommand command, Submitted callback, Deadline deadline = in_time(kSubmitPatience));
  /// On success the local copy has everything that was committed before the call, and no timed out
  /// command of this node can happen any more.
  void read_barrier(std::function<void(Result<void>)> callback, Deadline deadline = in_time(kSubmitPatience));

  Directory& directory() { return directory_; }
  const Directory& directory() const { return directory_; }
  bool is_first() const { return log_ != nullptr; }
  uint64_t community() const { return community_; }

 private:
  using OutcomeCallback = std::function<void(Result<Outcome>)>;
  struct Parked {  // a fetch that waits for the next batch
    Reply reply;
    Loop::TimerId expiry;
  };
  struct Waiter {  // a submit that waits until `index` is applied here
    uint64_t index;
    std::function<void()> callback;
  };

  void serve();
  // The first node's side.
  void enqueue(Packed command, CommandId id, OutcomeCallback callback);
  void flush();
  void on_batch_settled(Result<uint64_t> index, std::vector<CommandId> ids);
  void on_committed(const CommandLog::Entry& entry);
  void settle(const CommandId& id, Result<Outcome> outcome);
  void on_submit(const msgpack::object& params, Reply reply);
  void on_fetch(const msgpack::object& params, Reply reply);
  Packed fetched(uint64_t after) const;
  void wake_parked();
  void trim_when_long();
  // The followers' side.
  void fetch();
  void on_fetched(Answer answer);
  bool take_batches(const Fields& fields);
  void submit_remotely(CommandId id, DirectoryCommand command, Submitted callback, Deadline deadline);
  void when_applied(uint64_t index, std::function<void()> callback);
  void run_waiters();
  void save_soon();
  // Both.
  CommandId next_id();
  void settled(uint64_t sequence) { unsettled_.erase(sequence); }
  void submit_as(CommandId id, DirectoryCommand command, Submitted callback, Deadline deadline);

  Loop& loop_;
  RpcServer& server_;
  Peers& peers_;
  const Home& home_;
  Directory directory_;
  uint64_t community_ = 0;
  uint64_t session_ = 0;
  uint64_t next_sequence_ = 1;
  std::map<uint64_t, bool> unsettled_;  // sequences whose callers still wait
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  std::unique_ptr<LocalLog> log_;
  std::vector<std::pair<CommandId, Packed>> gathering_;  // for the next batch
  bool appending_ = false;
  std::multimap<std::pair<uint64_t, uint64_t>, OutcomeCallback> waiting_;  // by (session, sequence)
  std::map<uint64_t, Parked> parked_;
  uint64_t next_parked_ = 1;
  uint64_t trimmed_ = 0;  // index of the last snapshot

  std::string first_address_;
  bool fetching_ = false;
  uint64_t fetch_generation_ = 0;
  std::vector<Waiter> waiters_;
  Loop::TimerId save_timer_ = 0;
};

}  // namespace godwit
