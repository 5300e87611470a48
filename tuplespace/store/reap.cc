// What others do for a thread that was killed while it worked on spaces. The slot keeps what it had in hand until every
// step is done, each a transaction: so whoever is killed here leaves the rest to the next.
#include "tuplespace/store/reap.hh"

#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/recovery.hh"
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/delivery.hh"
#include "tuplespace/store/leases.hh"
#include "tuplespace/store/one_moment.hh"
#include "tuplespace/store/requests.hh"
#include "tuplespace/store/transactions.hh"
#include "tuplespace/store/waiters.hh"
#include "tuplespace/store/watches.hh"

namespace godwit::store {
namespace {

using namespace shared;

template <class F>
void as_far_as_whole(Desk& desk, F f) {
  try {
    f();
  } catch (const Damaged&) {
    empty_hands(desk);
  }
}

// What it had in hand of a damaged space stays with that. False: without memory for a shape, another time.
bool clear(Desk& desk, Bench& dead) {
  as_far_as_whole(desk, [&] { end_wait(desk, dead.waiter); });
  as_far_as_whole(desk, [&] { end_watches_of(desk, dead.owner); });
  bool all = settle(desk, dead);
  as_far_as_whole(desk, [&] { all = all && end_requests(desk, dead); });
  as_far_as_whole(desk, [&] { all = all && end_transactions(desk, dead); });
  as_far_as_whole(desk, [&] { all = all && end_deliveries(desk, dead); });
  if (!all) return false;
  as_far_as_whole(desk, [&] { clear_marks(desk, dead); });
  as_far_as_whole(desk, [&] { give_dead(desk, dead); });
  return true;
}

// Gives the bench back. A rescuer looks at it with kRecovery, so it is taken off the slot with that.
void free_bench(Desk& desk, Slot& slot) {
  for (Offset* hand : {&slot.intent, &slot.bench}) {
    if (!*hand) continue;
    lock(desk.self, kRecovery);
    desk.set(&desk.slot().intent, *hand);
    desk.set(hand, Offset{0});
    desk.commit();
    unlock(desk.self, kRecovery);
    free_intent(desk.self);
  }
}

}  // namespace

// Only the host's own area has benches. While benches are cleared, which waits for locks of spaces, pods may be reaped.
uint32_t reap(Desk& desk) {
  lock(desk.self, desk.header().locks[kBenches], store::release_dead);
  desk.finishing = true;
  Area* area = desk.self.segment.area_of(0);
  for (uint32_t i = 1; i < area->slot_count.load(); ++i) {
    Slot& slot = area->slots[i];
    if (!slot.dead() || !slot.bench) continue;
    store::release_dead(desk.self, owner_in(desk.self.segment, 0, i));
    if (clear(desk, *desk.self.segment.at<Bench>(slot.bench))) free_bench(desk, slot);
  }
  desk.finishing = false;
  unlock(desk.self, desk.header().locks[kBenches]);
  return shared::reap(desk.self);
}

}  // namespace godwit::store
