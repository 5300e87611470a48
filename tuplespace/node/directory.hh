// The directory: hosts, pods and the epochs that fence them, listeners, published ports.
//
// A deterministic state machine over a log of batches: no clock, no chance, no I/O. What must stay true:
// - equal logs give equal states, byte for byte (snapshot());
// - a command runs once: its session keeps the outcome until the caller's floor passes its sequence;
//   a session is the current incarnation of a joined host, and commands of any other are refused. So
//   once a host has joined anew, nothing that its former life sent can still happen;
// - a pod's epoch only grows, by one with each move; whoever names an older one is refused.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tuplespace/result.hh"
#include "tuplespace/wire.hh"

namespace godwit {

struct HostEntry {
  std::string name;
  std::string address;       // A:P of its node
  uint64_t home = 0;         // random, made with its GODWIT_HOME: who it really is
  uint32_t number = 0;       // 24 bits, unique in the community, never 0
  uint64_t incarnation = 0;  // random, new at each start of the node; the session of its commands
  bool present = true;       // false: it left in good order
  bool operator==(const HostEntry&) const = default;
};

struct PodEntry {
  uint64_t id = 0;
  std::string name;
  std::string host;              // which host runs it
  uint64_t epoch = 0;            // 1 at first
  std::string virtual_host;      // its name in the virtual network
  uint32_t virtual_address = 0;  // IPv4, host byte order, in 198.18.0.0/15
  bool operator==(const PodEntry&) const = default;
};

struct ListenerEntry {
  uint64_t id = 0;  // chosen by the pod's host, unique in the community
  uint64_t pod = 0;
  uint32_t address = 0;  // bound virtual address, host byte order; 0: any of the pod's
  uint16_t port = 0;
  bool operator==(const ListenerEntry&) const = default;
};

struct PublishedPort {
  std::string host;     // whose real port it is
  std::string address;  // real address it is bound to
  uint16_t port = 0;    // real port
  uint64_t pod = 0;
  uint16_t pod_port = 0;
  bool operator==(const PublishedPort&) const = default;
};

/// What a batch changed, told to the rooms of every node. `before` is empty for something new, `after`
/// for something gone.
struct Change {
  template <class T>
  struct Of {
    std::optional<T> before, after;
    explicit operator bool() const { return before || after; }
  };
  // Exactly one of these is set.
  Of<HostEntry> host;
  Of<PodEntry> pod;
  Of<ListenerEntry> listener;
  Of<PublishedPort> published;
};

struct DirectoryCommand {
  std::string op;
  Packed args;
};
/// Errors: EEXIST, another home has the name; EADDRINUSE, another home has the number; EBUSY, it has pods
/// under its former name.
DirectoryCommand host_joined(const HostEntry& host);
/// The host goes from the directory, or if it still has pods, is marked as not present.
DirectoryCommand host_left(const std::string& name);
/// Empty name: `hint`, or hint-2 and so on if that is taken. Empty virtual host: the pod's name. Id 0:
/// chosen. Outcome: the pod's entry as a map.
DirectoryCommand pod_created(const std::string& name, const std::string& hint, const std::string& host,
                             const std::string& virtual_host, uint64_t id = 0);
/// Compare-and-swap: from (pod, expected_epoch) to (host, expected_epoch + 1). Outcome: the pod's entry.
/// operation_canceled if the epoch is another by now.
DirectoryCommand pod_moved(uint64_t pod, uint64_t expected_epoch, const std::string& host);
/// Takes its listeners and published ports along. Fenced by the epoch as pod_moved is.
DirectoryCommand pod_ended(uint64_t pod, uint64_t epoch);
DirectoryCommand listener_added(const ListenerEntry& listener);
DirectoryCommand listener_removed(uint64_t id);
DirectoryCommand port_published(const PublishedPort& port);
DirectoryCommand port_withdrawn(const std::string& host, const std::string& address, uint16_t port);
/// Changes nothing; a barrier.
DirectoryCommand nothing();

/// What became of a command; kept for retries.
struct Outcome {
  int code = 0;  // errno; 0: done
  std::string what;
  Packed result;  // one msgpack object, nil if there is nothing to say
  Result<Packed> as_result() const;
};

struct CommandId {
  uint64_t session = 0;
  uint64_t sequence = 0;
  uint64_t floor = 0;  // sequences below it are settled for the caller
};
Packed pack_command(const CommandId& id, const DirectoryCommand& command);
Packed pack_batch(const std::vector<Packed>& commands);

struct Applied {
  CommandId id;
  Outcome outcome;
};

class Directory {
 public:
  // Reading. References live until the next apply or install.
  const std::map<std::string, HostEntry>& hosts() const { return state_.hosts; }
  const std::map<uint64_t, PodEntry>& pods() const { return state_.pods; }
  const std::map<uint64_t, ListenerEntry>& listeners() const { return state_.listeners; }
  std::vector<PublishedPort> published() const;
  const HostEntry* host(const std::string& name) const;
  const HostEntry* host_by_number(uint32_t number) const;
  const PodEntry* pod(uint64_t id) const;
  const PodEntry* pod_named(const std::string& name) const;
  /// The pod's listener that a connection to (address, port) reaches. An exact address comes before "any";
  /// address 0 asks for the port alone, as a connection to 127.0.0.1 does.
  const ListenerEntry* listener_at(uint32_t address, uint16_t port) const;
  uint64_t applied() const { return state_.applied; }  // index of the last batch

  // Writing, by the node alone.
  using Observer = std::function<void(const Change&)>;
  void on_change(Observer observer) { observers_.push_back(std::move(observer)); }
  /// `index` must be applied() + 1. A malformed batch changes nothing but applied().
  std::vector<Applied> apply(uint64_t index, std::string_view batch);
  Packed snapshot() const;
  /// Replaces everything; the observers hear the differences.
  Result<void> install(std::string_view snapshot);

 private:
  using PortKey = std::pair<std::string, std::pair<std::string, uint16_t>>;
  struct Session {
    std::string host;
    uint64_t floor = 0;
    std::map<uint64_t, Outcome> outcomes;
  };
  struct State {
    uint64_t applied = 0;
    uint64_t next_pod = 1;
    uint32_t next_address = 0;  // offset in the virtual network of the last address given
    std::map<std::string, HostEntry> hosts;
    std::map<uint64_t, PodEntry> pods;
    std::map<uint64_t, ListenerEntry> listeners;
    std::map<PortKey, PublishedPort> published;
    std::map<uint64_t, Session> sessions;
  };
  struct Command;
  using Op = Outcome (Directory::*)(const Command&);
  static const std::map<std::string_view, Op>& ops();

  Outcome run_once(const Command& command);
  Outcome join(const Command& command);
  Outcome leave(const Command& command);
  Outcome create_pod(const Command& command);
  Outcome move_pod(const Command& command);
  Outcome end_pod(const Command& command);
  Outcome add_listener(const Command& command);
  Outcome remove_listener(const Command& command);
  Outcome publish(const Command& command);
  Outcome withdraw(const Command& command);
  Outcome do_nothing(const Command& command);
  void drop_sessions_of(const std::string& host);
  bool has_pods(const std::string& host) const;
  std::optional<Outcome> drop_former_name(const HostEntry& host);
  std::string free_name(const std::string& hint) const;
  bool virtual_host_taken(const std::string& name) const;
  std::optional<uint32_t> free_address();
  static Result<State> read_state(std::string_view snapshot);
  void tell(const Change& change) const;

  State state_;
  std::vector<Observer> observers_;
};

/// Letters, digits, '.', '_', '-'; 1 to 63 of them, beginning with a letter or digit.
bool is_valid_name(std::string_view name);

}  // namespace godwit
