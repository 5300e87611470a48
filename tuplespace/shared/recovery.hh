// What others do for a thread that was killed.
#pragma once
#include "tuplespace/shared/thread.hh"

namespace godwit::shared {

/// Who is or was last in a slot.
uint32_t owner_in(const Segment& segment, uint32_t member, uint32_t index);
/// Phase 1: undoes the dead owner's half-done change and frees its locks. Idempotent; holds kRecovery.
void release_dead(Thread& self, uint32_t owner);
/// The same, calling more(slot) under kRecovery if the owner is dead indeed and its change undone.
void release_dead(Thread& self, uint32_t owner, void (*more)(Thread& self, uint32_t owner));
/// Takes back what the slot's thread has stored since its last commit: that thread, or who has kRecovery for a dead one.
void roll_back(const Segment& segment, Slot& slot);
/// Frees a lock if the dead owner holds it.
void free_lock_of(uint32_t owner, Lock& lock);

/// Phase 2 of what the segment itself knows, after which the slot is free: kReaper held, the slot dead, without bench.
void reap_slot(Thread& self, uint32_t member, uint32_t index);

/// Calls f(member, index, slot) for every dead slot. kReaper held.
template <class F>
void for_each_dead(const Segment& segment, F f) {
  for (uint32_t m = 0; m < kMembers; ++m) {
    if (segment.header().members[m].kind == MemberKind::kFree) continue;
    Area* area = segment.area_of(m);
    for (uint32_t i = 1; i < area->slot_count.load(); ++i) {
      Slot& slot = area->slots[i];
      if (slot.dead()) f(m, i, slot);
    }
  }
}

}  // namespace godwit::shared
