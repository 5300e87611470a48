// Moving a pod: the node's service on both hosts, around the engine (departure.hh, arrival.hh).
//
// Each move has one thread on each side, because ptrace belongs to a thread; everything that touches the node, its
// streams or the directory runs in the loop's thread (on_loop). The commit is the directory's compare-and-swap of
// (pod, epoch) to (target, epoch + 1):
//   before it   any failure on either side thaws the source and throws the target's copy away
//   after it    the target goes on; the source gives up what it still has
//   unknown     both copies stay stopped until the directory has been read (settle)
// docs/moves.md has the table of what happens when either side dies at any point.
#pragma once
#include <map>
#include <memory>

#include "migrate/incoming.hh"
#include "migrate/outgoing.hh"
#include "tuplespace/node/node.hh"

namespace godwit::migrate {

class MoveService {
 public:
  explicit MoveService(Node& node);

 private:
  void move(const msgpack::object& params, Reply reply);
  void prepare(const msgpack::object& params, Reply reply);
  void on_host_restart(const std::string& host);
  void on_pod_change(const PodEntry& pod);
  void settle();
  void settle_pod(const PodEntry& pod);

  Node& node_;
  std::map<uint64_t, std::unique_ptr<Outgoing>> outgoing_;  // by pod
  std::map<uint64_t, std::unique_ptr<Incoming>> incoming_;
};

void register_migrate(Node& node);

}  // namespace godwit::migrate
