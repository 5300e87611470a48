#include "tuplespace/streams/reaper.hh"

#include "tuplespace/store/desk.hh"
#include "tuplespace/store/reap.hh"
#include "tuplespace/store/spaces_table.hh"

namespace godwit {

constexpr auto kPause = std::chrono::seconds(1);

void Reaper::run(shared::Segment segment, std::stop_token stop) {
  while (!stop.stop_requested()) {
    if (auto desk = store::Desk::of(segment)) {
      store::reap(**desk);
      store::finish_drops(**desk);
    }
    std::unique_lock guard(lock_);
    stopped_.wait_for(guard, stop, kPause, [] { return false; });
  }
}

}  // namespace godwit
