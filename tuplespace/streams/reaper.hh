// Reaps members that were killed while they used spaces. In a thread of its own, since it takes locks that a stopped
// member may hold. Nobody waits long for its end either: one that is held up so is left to the end of the process.
#pragma once
#include <future>
#include <stop_token>
#include <thread>

#include "tuplespace/shared/segment.hh"

namespace godwit {

class Reaper {
 public:
  explicit Reaper(shared::Segment segment);
  ~Reaper();

 private:
  std::stop_source stop_;
  std::future<void> ended_;
  std::thread thread_;
};

}  // namespace godwit
