#include "tuplespace/shared/slot.hh"

#include <errno.h>

#include "tuplespace/shared/thread.hh"

namespace godwit::shared {
namespace {

// What pthread_mutex_init would store in a page of zeros is one word, always the same: so any number may do it at once.
int robust_kind() {
  pthread_mutexattr_t attributes;
  pthread_mutex_t mutex;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&mutex, &attributes);
  pthread_mutexattr_destroy(&attributes);
  return mutex.__data.__kind;
}

// A thread that claimed the slot died between our look and our lock, which is now ours: it is to be a dead thread's again.
void hand_back(Slot& slot) {
  pthread_mutex_unlock(&slot.alive);
  slot.alive.__data.__owner = 0;
  uint32_t nobody = 0;  // or who claims it now, so that nothing of the dead one is in it
  slot.alive_word().compare_exchange_strong(nobody, FUTEX_OWNER_DIED);
}

bool take(Slot& slot, int kind) {
  if (slot.state.load() != SlotState::kFree) return false;
  uint32_t left_behind = FUTEX_WAITERS;  // by who waited for a former thread
  slot.alive_word().compare_exchange_strong(left_behind, 0);
  if (slot.alive_word().load() != 0) return false;
  __atomic_store_n(&slot.alive.__data.__kind, kind, __ATOMIC_RELAXED);
  int e = pthread_mutex_trylock(&slot.alive);
  if (e == EOWNERDEAD) hand_back(slot);
  return e == 0;
}

// Takes a free slot, giving the area one more page when all that it has are taken.
uint32_t find(Area* area) {
  int kind = robust_kind();
  for (;;) {
    uint32_t count = area->slot_count.load();
    for (uint32_t i = 1; i < count; ++i)
      if (take(area->slots[i], kind)) return i;
    if (count >= area->slot_limit() || reserve(&area->slots[count], sizeof(Slot)) != 0) return 0;
    area->slot_count.compare_exchange_strong(count, count + 1);
  }
}

}  // namespace

int claim_slot(Thread& self, Area* area) {
  uint32_t index = find(area);
  if (index == 0) return area->slot_count.load() >= area->slot_limit() ? -EUSERS : -ENOSPC;
  Slot& slot = area->slots[index];
  slot.undo_count = 0;
  slot.intent = 0;
  __atomic_store_n(&slot.bench, Offset{0}, __ATOMIC_RELAXED);
  slot.owes = 0;
  slot.guest_at = 0;
  self.area = area;
  self.slot = &slot;
  self.slot_index = index;
  slot.state.store(SlotState::kLive);
  return 0;
}

void release_slot(Thread& self) {
  Slot& slot = *self.slot;
  slot.generation++;
  slot.state.store(SlotState::kFree);
  pthread_mutex_unlock(&slot.alive);
  self.slot = nullptr;
}

}  // namespace godwit::shared
