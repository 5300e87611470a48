// Watches, as their threads use them.
#include "tuplespace/store/store_work.hh"

namespace godwit::store {
namespace {

Error nothing_in_time() { return make_error(std::errc::timed_out, "the time is over; without one a watch goes on"); }
Error not_its_own() {
  return make_error(std::errc::identifier_removed, "a watch is its thread's, and has ended with it; begin another");
}

}  // namespace

Result<Watching> Store::watch(std::span<const TemplateView> any_of) {
  if (auto no = refuse(any_of)) return *no;
  return work<Watching>([&](Desk& desk) -> Result<Watching> {
    auto begun = begin_watch(desk, *root_, any_of, [&] { return closed(); });
    if (!begun) return begun.error();
    return Watching{*begun, desk.owner()};
  });
}

Result<bool> Store::next(Watching& watching, const Wait* wait, const std::function<void(TupleView)>& show) {
  return work<bool>([&](Desk& desk) -> Result<bool> {
    if (watching.owner != desk.owner()) return not_its_own();
    for (;;) {
      uint32_t bell = 0;
      if (watching.seen == watching.come)
        if (auto no = look_at_watch(desk, watching, &bell)) return *no;
      Watch& watch = desk.at<Watch>(watching.watch.ref);
      if (watching.seen != watching.come) {
        if (auto there = shown(desk, Result<bool>(true)); !there) return there;
        show(fields_of(desk, stored_at(desk, place_in(watch, watching.seen))).view());
        pass_arrival(desk, watch);
        ++watching.seen;
        return true;
      }
      if (!wait) return false;
      if (auto why = over(*wait, nothing_in_time)) return *why;
      std::stop_callback nudge(wait->stop, [&] { ring(watch); });
      sleep_on(watch.bell, bell, wait->deadline, kTick);
    }
  });
}

// What has come to it by now; if nothing, its bell as it is before anything does. An error: it is over.
std::optional<Error> Store::look_at_watch(Desk& desk, Watching& watching, uint32_t* bell) const {
  Locked locked(desk, *root_, kStripes);
  Watch* watch = find_watch(desk, *root_, watching.watch);
  if (!watch) return not_its_own();
  watching.come = watch->come;
  watching.missed = watch->missed;
  if (watching.seen != watching.come) return std::nullopt;
  watch->sleeps = 1;
  *bell = watch->bell;
  return closed();
}

bool Store::has_come(const Watching& watching) const {
  auto desk = Desk::of(segment_);
  if (!desk || watching.owner != (*desk)->owner()) return true;
  return !is_open() || __atomic_load_n(&(*desk)->at<Watch>(watching.watch.ref).come, __ATOMIC_ACQUIRE) != watching.seen;
}

void Store::end_watch(const Watching& watching) {
  (void)work<void>([&](Desk& desk) -> Result<void> {
    if (watching.owner == desk.owner()) store::end_watch(desk, *root_, watching.watch);
    return {};
  });
}

}  // namespace godwit::store
