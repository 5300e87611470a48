// The node's part in the conversations of foregrounds of this host whose pods have moved: it carries their asks to the
// node of whichever host runs the pod, and the answers back. It keeps nothing of them that must outlive it
// (conversation.hh), so a foreground whose node has died waits for the next one.
//
// Who starts a pod comes aboard first: so the node sees at once when he is killed before the pod runs.
#pragma once
#include <map>

#include "tuplespace/node/node.hh"
#include "wrapper/control_channel.hh"

namespace godwit {

class Ferry {
 public:
  explicit Ferry(Node& node);
  ~Ferry();
  Result<void> listen();
  bool aboard(uint64_t number) const { return passengers_.contains(number); }
  /// Called when one who starts a pod, and the supervisor that he has made, hold his place no more.
  void on_starter_gone(std::function<void(uint64_t number)> handler) { starter_gone_ = std::move(handler); }

 private:
  struct Passenger {
    UniqueFd fd;
    std::string in, out;
    uint64_t pod = 0;
    uint64_t asked = 0;  // serial of the latest ask
    bool starter = false;
  };
  void board();
  void serve(uint64_t id, uint32_t events);
  bool read(uint64_t id, Passenger& passenger);
  void ask(uint64_t id, const std::string& what);
  void tell(uint64_t id, wrapper::FrameKind kind, const std::string& payload);
  void flush(Passenger& passenger);
  void leave(uint64_t id);
  const PodEntry* pod_of(uint64_t id) const;

  Node& node_;
  UniqueFd listening_;
  uint64_t next_;  // from a random number on: an earlier node's mean nothing to this one
  std::function<void(uint64_t)> starter_gone_;
  std::map<uint64_t, Passenger> passengers_;
};

/// The place of one who starts a pod.
struct Starter {
  UniqueFd place;
  uint64_t number = 0;  // for pods.admit
};
Result<Starter> board_as_starter(const Home& home);

/// A foreground's place on it; invalid while no node serves this home.
UniqueFd ride(const Home& home, uint64_t pod);

}  // namespace godwit
