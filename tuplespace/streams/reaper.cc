#include "tuplespace/streams/reaper.hh"

#include <condition_variable>
#include <mutex>

#include "tuplespace/store/desk.hh"
#include "tuplespace/store/reap.hh"
#include "tuplespace/store/spaces_table.hh"
#include "tuplespace/streams/mediator.hh"

namespace godwit {
namespace {

constexpr auto kPause = std::chrono::seconds(1);
constexpr auto kPatience = std::chrono::seconds(1);

// Touches nothing of the Reaper, which it may outlive.
void run(shared::Segment segment, std::stop_token stop) {
  std::mutex lock;
  std::condition_variable_any stopped;
  while (!stop.stop_requested()) {
    if (auto desk = store::Desk::of(segment)) {
      ring_for_dead_mediators((*desk)->self);
      store::reap(**desk);
      store::finish_drops(**desk);
    }
    std::unique_lock guard(lock);
    stopped.wait_for(guard, stop, kPause, [] { return false; });
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
