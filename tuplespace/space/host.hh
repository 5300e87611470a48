// This host, as the spaces of a process share it: its segment, mapped once, and its node.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tuplespace/node/client.hh"
#include "tuplespace/shared/segment.hh"

namespace godwit {

class Host {
 public:
  /// Of a home. Starts its node, which reaps who is killed. The mapping stays until the process ends: threads have their
  /// standing in it.
  static Result<std::shared_ptr<Host>> of(const Home& home);

  const shared::Segment& segment() const { return segment_; }
  /// Asks the node. Any thread.
  Answer ask(std::string_view method, const Packed& params, Loop::Clock::duration patience);

 private:
  Host(Home home, shared::Segment segment) : home_(std::move(home)), segment_(segment) {}
  std::unique_ptr<NodeClient> idle_client();

  Home home_;
  shared::Segment segment_;
  std::mutex lock_;
  std::vector<std::unique_ptr<NodeClient>> idle_;  // under lock_
  int pid_ = 0;                                    // who made them, under lock_
};

}  // namespace godwit
