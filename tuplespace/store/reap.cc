// What others do for a thread that was killed while it worked on spaces. The slot keeps what it had in hand until every
// step is done, each a transaction: so whoever is killed here leaves the rest to the next.
#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/recovery.hh"
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/operations.hh"

namespace godwit::store {
namespace {

using namespace shared;

// With the locks under which it could be answered: an answer that is not committed is none.
void end_wait(Desk& desk, Bench& dead) {
  if (!dead.wanted) return;
  Root& root = root_of(desk, dead.space);
  {
    Locked locked(desk, root, dead.key ? dead.stripe : kStripes);
    if (dead.waiting != Waiting::kNo) unlink_waiter(desk, root, dead);
    pick_up(desk, kFirstHand, dead.wanted);
    desk.set(&dead.wanted, Ref{0});
    desk.commit();
  }
  give(desk, kFirstHand);
}

// Tuples on their way to another space go on if that was decided, and else back.
bool end_chain(Desk& desk, Bench& dead) {
  while (Ref tuple = dead.chain) {
    Stored& stored = stored_at(desk, tuple);
    if (!dead.chain_decided && dead.chain_copies) {
      desk.set(&dead.chain, stored.newer);
      discard(desk, tuple);
    } else if (!put_chained(desk, dead)) {
      return false;
    }
  }
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

}  // namespace

uint32_t reap(Desk& desk) {
  uint32_t reaped = 0;
  lock(desk.self, desk.header().locks[kReaper], store::release_dead);
  for_each_dead(desk.self.segment, [&](uint32_t member, uint32_t index, Slot& slot) {
    store::release_dead(desk.self, member << 10 | index);
    if (slot.bench) {
      try {
        if (!clear_bench(desk, *desk.self.segment.at<Bench>(slot.bench))) return;  // no memory: another time
      } catch (const Damaged&) {
        return;  // what it had in hand is of a damaged space: it stays there
      }
      if (slot.intent) {  // ours is needed for the bench
        desk.set(&desk.slot().intent, slot.intent);
        desk.set(&slot.intent, Offset{0});
        desk.commit();
        free_intent(desk.self);
      }
      desk.set(&desk.slot().intent, slot.bench);
      desk.set(&slot.bench, Offset{0});
      desk.commit();
      free_intent(desk.self);
    }
    reap_slot(desk.self, member, index);
    ++reaped;
  });
  unlock(desk.self, desk.header().locks[kReaper]);
  return reaped;
}

}  // namespace godwit::store
