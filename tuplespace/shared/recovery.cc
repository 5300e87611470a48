// Recovery in two phases. Phase 1 runs under the leaf lock kRecovery and only takes back: it may be cut
// short by a kill at any point and done again. Phase 2 runs under kReaper, holds no other lock of its own
// while it begins a step, and gives back what the dead thread had in its hands.
#include "tuplespace/shared/recovery.hh"

#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/bell.hh"
#include "tuplespace/shared/futex.hh"

namespace godwit::shared {

void roll_back(const Segment& segment, Slot& slot) {
  if (slot.undo_count > kUndoEntries) slot.undo_count = 0;  // was taken back already
  while (slot.undo_count) {
    const UndoEntry& entry = slot.undo[slot.undo_count - 1];
    char* p = segment.base() + (entry.where >> 2);
    if ((entry.where & 3) == 2) {
      *reinterpret_cast<volatile uint64_t*>(p) = entry.old;
    } else {
      *reinterpret_cast<volatile uint32_t*>(p) = static_cast<uint32_t>(entry.old);
    }
    compiler_barrier();
    *static_cast<volatile uint32_t*>(&slot.undo_count) = slot.undo_count - 1;
    compiler_barrier();
  }
}

bool overflow(Thread& self) {
  roll_back(self.segment, *self.slot);
  *static_cast<volatile uint32_t*>(&self.slot->undo_count) = kUndoEntries + 1;
  return false;
}

uint32_t owner_in(const Segment& segment, uint32_t member, uint32_t index) {
  return owner_of(member, index, segment.area_of(member)->slots[index].generation);
}

void free_lock_of(uint32_t owner, Lock& lock) {
  uint32_t seen = lock.word.load();
  while ((seen & ~kLockWaiters) == owner && !lock.word.compare_exchange_weak(seen, 0)) {
  }
  if ((seen & ~kLockWaiters) == owner) wake_all(lock.word);
}

void release_dead(Thread& self, uint32_t owner) { release_dead(self, owner, nullptr); }

void release_dead(Thread& self, uint32_t owner, void (*more)(Thread& self, uint32_t owner)) {
  lock(self, kRecovery);
  Header& header = self.segment.header();
  Slot& slot = self.segment.slot_of(owner);
  if (slot.dead() && is_of(owner, slot.generation)) {
    roll_back(self.segment, slot);
    for (uint32_t name = 0; name < kRecovery; ++name) free_lock_of(owner, header.locks[name]);
    if (more) more(self, owner);
    wake_all(slot.alive_word());
  }
  unlock(self, kRecovery);
}

// Of the ends of one socket that the slot's pod has. Whoever waits for such a lock takes it over by itself until the slot
// is another's: a pod's own threads end with the pod, but a mediator's slot is used again.
static void free_end_locks(const Segment& segment, uint32_t member, uint32_t index, Offset at) {
  for (End& end : segment.at<Socket>(at)->ends) {
    if (end.pod != segment.area_of(member)->pod) continue;
    for (std::atomic<uint32_t>* lock : {&end.read_lock, &end.write_lock}) {
      uint32_t seen = lock->load();
      while ((seen & ~kLockWaiters) == index && !lock->compare_exchange_weak(seen, 0)) {
      }
      if ((seen & ~kLockWaiters) == index) wake_all(*lock);
    }
  }
}

void reap_slot(Thread& self, uint32_t member, uint32_t index) {
  Slot& slot = self.segment.area_of(member)->slots[index];
  release_dead(self, owner_in(self.segment, member, index));
  if (slot.intent) free_intent(self, slot);
  if (slot.guest_at) free_end_locks(self.segment, member, index, slot.guest_at);
  wake_watchers(self.segment);  // what the dead thread published last it may not have rung for
  lock(self, kRecovery);        // nobody is about to free locks of this owner, who may soon be another thread
  slot.generation++;
  slot.state.store(SlotState::kFree);
  slot.alive_word().store(0);  // from here on it may be claimed
  unlock(self, kRecovery);
}

uint32_t reap(Thread& self) {
  uint32_t reaped = 0;
  lock(self, kReaper);
  for_each_dead(self.segment, [&](uint32_t member, uint32_t index, Slot& slot) {
    if (slot.bench || slot.owes) return;
    reap_slot(self, member, index);
    ++reaped;
  });
  unlock(self, kReaper);
  return reaped;
}

}  // namespace godwit::shared
