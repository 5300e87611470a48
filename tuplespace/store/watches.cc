#include "tuplespace/store/watches.hh"

#include <x86intrin.h>

#include <optional>

#include "tuplespace/shared/futex.hh"
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/delivery.hh"
#include "tuplespace/store/requests.hh"
#include "tuplespace/store/sleep.hh"
#include "tuplespace/store/waiters.hh"

namespace godwit::store {
namespace {

constexpr uint32_t kMostWatches = 16;  // of a space: one out tells them all in one transaction

// Calls f(ref, watch) for the root's watches until it returns false.
template <class F>
void for_each_watch(Desk& desk, const Root& root, F f) {
  Steps steps(desk, kMostWatches);
  for (Ref r = root.watches; r; r = desk.at<Watch>(r).next) {
    steps.take();
    check_room(desk, r, sizeof(Watch));
    if (!f(r, desk.at<Watch>(r))) return;
  }
}

bool is_full(const Watch& watch, uint64_t memory) {
  // Its thread goes on meanwhile: then less is kept than we think.
  uint64_t kept = watch.come - __atomic_load_n(&watch.seen, __ATOMIC_ACQUIRE);
  uint64_t bytes = watch.come_bytes - __atomic_load_n(&watch.seen_bytes, __ATOMIC_ACQUIRE);
  return kept >= kWatched || (kept && bytes + memory > kWatchedBytes);
}

void unlink_watch(Desk& desk, Root& root, Ref watch) {
  Ref* link = &root.watches;
  while (*link != watch) link = &desk.at<Watch>(*link).next;
  desk.set(link, desk.at<Watch>(watch).next);
}

std::optional<WatchRef> any_watch_of(Desk& desk, Root& root, uint32_t owner) {
  std::optional<WatchRef> found;
  Locked locked(desk, root, kStripes);
  for_each_watch(desk, root, [&](Ref ref, const Watch& watch) {
    if (watch.owner == owner) found = WatchRef{ref, watch.id};
    return !found;
  });
  return found;
}

// What is in the hands becomes a watch.
WatchRef start_watch(Desk& desk, Root& root, Ref ref) {
  Watch& watch = desk.at<Watch>(ref);
  watch.next = root.watches;
  watch.owner = desk.owner();
  watch.generation = root.generation.load();
  watch.wanted = desk.bench->in_hand[kFirstHand];
  watch.bell = watch.sleeps = 0;
  watch.id = __rdtsc();
  watch.come = watch.come_bytes = watch.missed = watch.seen = watch.seen_bytes = 0;
  desk.set(&root.watches, ref);
  put_down(desk, kFirstHand);
  put_down(desk, kSecondHand);
  desk.commit();
  return {ref, watch.id};
}

}  // namespace

Result<WatchRef> begin_watch(Desk& desk, Root& root, std::span<const TemplateView> any_of,
                             const std::function<std::optional<Error>()>& closed) {
  Error no = make_error(std::errc::no_space_on_device, "no memory for a watch; take tuples, drop spaces, or make room in /dev/shm");
  Ref ref = write_wanted(desk, any_of) ? take(desk, kSecondHand, sizeof(Watch)) : 0;
  if (ref) {
    Locked locked(desk, root, kStripes);
    uint32_t others = 0;
    for_each_watch(desk, root, [&](Ref, const Watch&) { return ++others; });
    auto why = closed();
    if (!why && others < kMostWatches) return start_watch(desk, root, ref);
    no = why ? *why : make_error(std::errc::no_space_on_device, "the space has 16 watches, the most; end one");
  }
  give(desk, kFirstHand);
  give(desk, kSecondHand);
  return no;
}

void note_arrival(Desk& desk, Root& root, Ref tuple, TupleView fields) {
  Stored& stored = stored_at(desk, tuple);
  uint64_t memory = memory_of(desk, tuple);
  for_each_watch(desk, root, [&](Ref, Watch& watch) {
    if (watch.generation != root.generation.load() || !wants(desk, watch.wanted, fields)) return true;
    if (is_full(watch, memory)) return desk.set(&watch.missed, watch.missed + 1), true;
    place_in(watch, watch.come) = tuple;
    desk.set(&watch.come_bytes, watch.come_bytes + memory);
    desk.set(&watch.come, watch.come + 1);
    desk.set(&stored.pins, (stored.pins | kShared) + 1);
    return true;
  });
}

void ring(Watch& watch) {
  if (ring(watch.bell, watch.sleeps)) shared::wake_all(watch.bell);
}

void ring_watches(Desk& desk, Root& root, Ref tuple) {
  for_each_watch(desk, root, [&](Ref, Watch& watch) {
    if (watch.come && place_in(watch, watch.come - 1) == tuple) ring(watch), ring_thread(desk, watch.owner);
    return true;
  });
}

void ring_all_watches(Desk& desk, Root& root) {
  for_each_watch(desk, root, [&](Ref, Watch& watch) { return ring(watch), ring_thread(desk, watch.owner), true; });
}

Watch* find_watch(Desk& desk, Root& root, WatchRef watch) {
  Watch* found = nullptr;
  for_each_watch(desk, root, [&](Ref ref, Watch& one) {
    if (ref == watch.ref && one.id == watch.id) found = &one;
    return !found;
  });
  return found;
}

void pass_arrival(Desk& desk, Watch& watch) {
  Ref tuple = place_in(watch, watch.seen);
  uint64_t memory = memory_of(desk, tuple);
  take_pin_off(desk, tuple, [&] {
    desk.set(&watch.seen, watch.seen + 1);
    desk.set(&watch.seen_bytes, watch.seen_bytes + memory);
  });
}

// What has come is let go of first: so whoever is killed in between leaves a watch that can be ended again.
void end_watch(Desk& desk, Root& root, WatchRef watch) {
  for (;;) {
    Watch* found;
    {
      Locked locked(desk, root, kStripes);
      found = find_watch(desk, root, watch);
      if (!found) return;
      if (found->seen == found->come) {
        unlink_watch(desk, root, watch.ref);
        pick_up(desk, kFirstHand, found->wanted);
        pick_up(desk, kSecondHand, watch.ref);
        desk.commit();
        break;
      }
    }
    pass_arrival(desk, *found);
  }
  give(desk, kFirstHand);
  give(desk, kSecondHand);
}

void end_watches_of(Desk& desk, uint32_t owner) {
  for_each_root(desk, [&](Root& root) {
    try {
      while (root.watches) {
        auto watch = any_watch_of(desk, root, owner);
        if (!watch) break;
        end_watch(desk, root, *watch);
      }
    } catch (const Damaged&) {  // it keeps what it has; the other spaces are whole
      empty_hands(desk);
      close_damaged(root);
    }
  });
}

}  // namespace godwit::store
