#include "tuplespace/streams/ring_waiter.hh"

#include "tuplespace/shared/bell.hh"

namespace godwit {

RingWaiter::RingWaiter(TupleSource& source, shared::Segment segment, std::function<void()> rung)
    : source_(source), segment_(segment), rung_(std::move(rung)) {}

RingWaiter::~RingWaiter() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard guard(lock_);
    stop_ = true;
  }
  wanted_.notify_one();
  shared::wake_watchers(segment_);
  thread_.join();
}

void RingWaiter::wait_since(uint32_t mark) {
  {
    std::lock_guard guard(lock_);
    mark_ = mark;
    has_mark_ = true;
  }
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  wanted_.notify_one();
}

void RingWaiter::run() {
  for (;;) {
    uint32_t mark;
    {
      std::unique_lock guard(lock_);
      wanted_.wait(guard, [this] { return stop_ || has_mark_; });
      if (stop_) return;
      mark = mark_;
      has_mark_ = false;
    }
    // A stop rings after it is set: so either it is seen below or its ring ends the wait.
    while (!stop_ && segment_.header().net_generation.load() == mark) source_.wait(mark, kForever);
    if (stop_) return;
    rung_();
  }
}

}  // namespace godwit
