// What others do for a thread that was killed while it worked on spaces. The slot keeps what it had in hand until every
// step is done, each a transaction: so whoever is killed here leaves the rest to the next.
#include "tuplespace/store/reap.hh"

#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/recovery.hh"
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/delivery.hh"
#include "tuplespace/store/waiters.hh"

namespace godwit::store {
namespace {

using namespace shared;

// Tuples on their way to another space go on if that was decided, and else back.
bool end_chain(Desk& desk, Bench& dead) {
  if (!dead.chain_decided && dead.chain_copies) drop_copies(desk, dead);
  while (dead.chain)
    if (!put_chained(desk, dead)) return false;
  dead.chain_decided = 0;
  return true;
}

bool clear_bench(Desk& desk, Bench& dead) {
  end_wait(desk, dead);
  if (dead.pinned) unpin(desk, dead);
  if (dead.held && !put_back_held(desk, dead)) return false;
  if (!end_chain(desk, dead)) return false;
  give_dead(desk, dead);
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

// What it had in hand of a damaged space stays with it; without memory for a shape, another time.
bool clear(Desk& desk, Slot& slot) {
  try {
    return clear_bench(desk, *desk.self.segment.at<Bench>(slot.bench));
  } catch (const Damaged&) {
    return true;
  }
}

}  // namespace

// Only the host's own area has benches. While benches are cleared, which waits for locks of spaces, pods may be reaped.
uint32_t reap(Desk& desk) {
  lock(desk.self, desk.header().locks[kBenches], store::release_dead);
  Area* area = desk.self.segment.area_of(0);
  for (uint32_t i = 1; i < area->slot_count.load(); ++i) {
    Slot& slot = area->slots[i];
    if (slot.state.load() != SlotState::kLive || !slot.dead() || !slot.bench) continue;
    store::release_dead(desk.self, i);
    if (clear(desk, slot)) free_bench(desk, slot);
  }
  unlock(desk.self, desk.header().locks[kBenches]);
  return shared::reap(desk.self);
}

}  // namespace godwit::store
