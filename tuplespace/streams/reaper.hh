// Reaps members that were killed while they used spaces. In a thread of its own, since it takes locks that a stopped
// member may hold.
#pragma once
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <thread>

#include "tuplespace/shared/segment.hh"

namespace godwit {

class Reaper {
 public:
  explicit Reaper(shared::Segment segment) : thread_([this, segment](std::stop_token stop) { run(segment, stop); }) {}

 private:
  void run(shared::Segment segment, std::stop_token stop);

  std::mutex lock_;
  std::condition_variable_any stopped_;
  std::jthread thread_;
};

}  // namespace godwit
