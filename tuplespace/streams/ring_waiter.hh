// Waits for rings in a thread of its own, for a futex is nothing that a loop can wait for. Idle: no system call.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "tuplespace/shared/segment.hh"
#include "tuplespace/source.hh"

namespace godwit {

class RingWaiter {
 public:
  /// source: only its wait() is used, which touches nothing but the segment.
  RingWaiter(TupleSource& source, shared::Segment segment, std::function<void()> rung);
  ~RingWaiter();

  /// Has `rung` called in a thread of ours once, when something has come since `mark`.
  void wait_since(uint32_t mark);

 private:
  void run();

  TupleSource& source_;
  shared::Segment segment_;
  std::function<void()> rung_;
  std::thread thread_;
  std::mutex lock_;
  std::condition_variable wanted_;
  std::atomic<bool> stop_ = false;  // set under lock_
  bool has_mark_ = false;           // under lock_
  uint32_t mark_ = 0;               // under lock_
};

}  // namespace godwit
