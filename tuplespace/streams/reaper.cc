#include "tuplespace/streams/reaper.hh"

#include "tuplespace/shared/futex.hh"
#include "tuplespace/store/desk.hh"
#include "tuplespace/store/leases.hh"
#include "tuplespace/store/reap.hh"
#include "tuplespace/store/spaces_table.hh"
#include "tuplespace/streams/deaths.hh"
#include "tuplespace/streams/mediator.hh"

namespace godwit {
namespace {

constexpr std::chrono::nanoseconds kPause = std::chrono::seconds(1);
constexpr auto kPatience = std::chrono::seconds(1);

// Touches nothing of the Reaper, which it may outlive. What is due in spaces is seen to at its time; the dead when their process
// ends, and each kPause, for a process in another PID namespace is not seen to end.
void run(shared::Segment segment, std::stop_token stop) {
  std::stop_callback wake(stop, [segment] { store::wake_timer(segment); });
  std::atomic<bool> somebody_died = true;
  Deaths deaths([&somebody_died, segment] {
    somebody_died = true;
    store::wake_timer(segment);
  });
  for (uint64_t reaped = 0;;) {
    uint32_t mark = store::timer_mark(segment);
    if (stop.stop_requested()) return;
    auto desk = store::Desk::of(segment);
    if (!desk) {
      std::this_thread::sleep_for(kPause);  // as many threads as can have a slot; some will end
      continue;
    }
    for (int pid : store::processes(**desk)) deaths.watch(pid);
    uint64_t now = shared::monotonic_ns();
    if (somebody_died.exchange(false) || now - reaped >= static_cast<uint64_t>(kPause.count())) {
      reaped = now;
      ring_for_dead_mediators((*desk)->self);
      store::reap(**desk);
      store::finish_drops(**desk);
    }
    store::await_due(segment, mark, store::expire(**desk), kPause);
  }
}

}  // namespace

Reaper::Reaper(shared::Segment segment) {
  std::promise<void> end;
  ended_ = end.get_future();
  thread_ = std::thread([segment, stop = stop_.get_token(), end = std::move(end)]() mutable {
    end.set_value_at_thread_exit();  // when it has left the segment too
    run(segment, stop);
  });
}

Reaper::~Reaper() {
  stop_.request_stop();
  if (ended_.wait_for(kPatience) == std::future_status::ready) thread_.join();
  else thread_.detach();
}

}  // namespace godwit
