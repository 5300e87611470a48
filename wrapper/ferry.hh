// The node's part in the conversations of foregrounds of this host whose pods have moved: it carries their asks to the
// node of whichever host runs the pod, and the answers back. It keeps nothing of them that must outlive it
// (conversation.hh), so a foreground whose node has died waits for the next one.
#pragma once
#include <map>

#include "tuplespace/node/node.hh"
#include "wrapper/control_channel.hh"

namespace godwit {

class Ferry {
 public:
  explicit Ferry(Node& node) : node_(node) {}
  ~Ferry();
  Result<void> listen();

 private:
  struct Passenger {
    UniqueFd fd;
    std::string in, out;
    uint64_t pod = 0;
    uint64_t asked = 0;  // serial of the latest ask
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
  uint64_t next_ = 1;
  std::map<uint64_t, Passenger> passengers_;
};

/// A foreground's place on it; invalid while no node serves this home.
UniqueFd ride(const Home& home, uint64_t pod);

}  // namespace godwit
