// Locks inside pieces: of an end's reading and writing, of a set. Taken only by threads of the one pod that has
// the piece's end, so the owner is the slot's index in the pod's area: the lock moves with the pod, held or not.
// (A mediator takes one for a moment in a slot of that area: streams/mediator.cc.)
#pragma once
#include "tuplespace/shared/futex.hh"
#include "tuplespace/shared/thread.hh"

namespace godwit::shared {

/// One try. On success the caller holds (Thread::hold) and must call end_unlock.
/// On failure fills `v` with what to wait for; returns its count, 0: try again at once; -1: locked.
inline int try_end_lock(Thread& self, std::atomic<uint32_t>& word, futex_waitv* v) {
  self.hold();
  uint32_t seen = 0;
  if (word.compare_exchange_strong(seen, self.slot_index, std::memory_order_acquire)) return -1;
  if (!(seen & kLockWaiters)) {
    if (!word.compare_exchange_strong(seen, seen | kLockWaiters)) {
      self.hold_ends();
      return 0;
    }
    seen |= kLockWaiters;
  }
  std::atomic<uint32_t>& alive = self.area->slots[seen & ~kLockWaiters].alive_word();
  uint32_t life = alive.fetch_or(FUTEX_WAITERS) | FUTEX_WAITERS;
  if (life & FUTEX_OWNER_DIED) {
    // What the lock guards is one store of head or tail: whole or not done. So it is simply taken over.
    if (word.compare_exchange_strong(seen, self.slot_index | kLockWaiters)) return -1;
    self.hold_ends();
    return 0;
  }
  v[0] = futex_waitv{seen, reinterpret_cast<uintptr_t>(&word), FUTEX_32, 0};
  v[1] = futex_waitv{life, reinterpret_cast<uintptr_t>(&alive), FUTEX_32, 0};
  self.hold_ends();
  return 2;
}

inline void end_lock(Thread& self, std::atomic<uint32_t>& word) {
  futex_waitv v[2];
  for (uint32_t spin = 0;;) {
    int n = try_end_lock(self, word, v);
    if (n < 0) return;
    if (spin++ < 64) {
      cpu_relax();
    } else if (n > 0) {
      wait_any(v, static_cast<uint32_t>(n), kBackstop);
    }
  }
}

inline void end_unlock(Thread& self, std::atomic<uint32_t>& word) {
  compiler_barrier();
  if (word.exchange(0, std::memory_order_release) & kLockWaiters) wake_one(word);
  self.hold_ends();
}

}  // namespace godwit::shared
