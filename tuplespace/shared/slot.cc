#include "tuplespace/shared/slot.hh"

#include <errno.h>

#include "tuplespace/shared/thread.hh"

namespace godwit::shared {
namespace {

bool take(Slot& slot) {
  SlotState expected = SlotState::kFree;
  return slot.state.compare_exchange_strong(expected, SlotState::kClaimed);
}

// Finds a free slot, giving the area one more page when all that it has are taken.
uint32_t find(Area* area) {
  for (;;) {
    uint32_t count = area->slot_count.load();
    for (uint32_t i = 1; i < count; ++i)
      if (take(area->slots[i])) return i;
    if (count >= kSlots || reserve(&area->slots[count], sizeof(Slot)) != 0) return 0;
    area->slot_count.compare_exchange_strong(count, count + 1);
  }
}

void lock_alive(Slot& slot) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&slot.alive, &attributes);
  pthread_mutexattr_destroy(&attributes);
  pthread_mutex_lock(&slot.alive);
}

}  // namespace

int claim_slot(Thread& self, Area* area) {
  uint32_t index = find(area);
  if (index == 0) return area->slot_count.load() >= kSlots ? -EUSERS : -ENOSPC;
  Slot& slot = area->slots[index];
  slot.undo_count = 0;
  slot.intent = 0;
  slot.bench = 0;
  slot.owes = 0;
  slot.guest_at = 0;
  lock_alive(slot);
  self.area = area;
  self.slot = &slot;
  self.slot_index = index;
  slot.state.store(SlotState::kLive);
  return 0;
}

void release_slot(Thread& self) {
  Slot& slot = *self.slot;
  slot.state.store(SlotState::kClaimed);
  pthread_mutex_unlock(&slot.alive);
  slot.state.store(SlotState::kFree);
  self.slot = nullptr;
}

}  // namespace godwit::shared
