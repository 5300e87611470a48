// Locks that outlive their owner's death. The word names the owner's slot; who waits waits on the word
// and on the owner's alive word at once, so the kernel's mark at the owner's death wakes it.
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tuplespace/shared/futex.hh"
#include "tuplespace/shared/recovery.hh"
#include "tuplespace/shared/thread.hh"

namespace godwit::shared {
namespace {

// Whether somebody has that name, or had it and was not reaped. Else nobody ever will: a lock with it is nobody's.
bool is_owner(const Segment& segment, uint32_t owner) {
  uint32_t index = slot_index_of(owner), member = member_of(owner);
  if (index == 0 || segment.header().members[member].kind == MemberKind::kFree) return false;
  return index < segment.area_of(member)->slot_count.load() && is_of(owner, segment.slot_of(owner).generation);
}

// One try. When it fails, `v` and `n` say what to wait for; n == 0: try again at once.
// mine: with kLockWaiters from when this thread has slept, for then it does not know whether others still do.
bool try_lock(Thread& self, std::atomic<uint32_t>& word, uint32_t mine, Heir heir, futex_waitv* v, uint32_t* n) {
  uint32_t seen = 0;
  *n = 0;
  if (word.compare_exchange_strong(seen, mine, std::memory_order_acquire)) return true;
  if (!(seen & kLockWaiters)) {
    if (!word.compare_exchange_strong(seen, seen | kLockWaiters)) return false;
    seen |= kLockWaiters;
  }
  if (!is_owner(self.segment, seen & ~kLockWaiters)) return word.compare_exchange_strong(seen, mine | kLockWaiters);
  Slot& owner = self.segment.slot_of(seen & ~kLockWaiters);
  std::atomic<uint32_t>& alive = owner.alive_word();
  // Without a TID in it the owner has left, and its slot may be about to be another's: nothing may be added then.
  uint32_t life = alive.load();
  if (!(life & (FUTEX_TID_MASK | FUTEX_OWNER_DIED))) return false;
  if (!(life & FUTEX_WAITERS) && !alive.compare_exchange_strong(life, life | FUTEX_WAITERS)) return false;
  life |= FUTEX_WAITERS;
  if (life & FUTEX_OWNER_DIED) {
    if (!heir) return word.compare_exchange_strong(seen, mine | kLockWaiters);
    heir(self, seen & ~kLockWaiters);
    return false;
  }
  v[0] = futex_waitv{seen, reinterpret_cast<uintptr_t>(&word), FUTEX_32, 0};
  v[1] = futex_waitv{life, reinterpret_cast<uintptr_t>(&alive), FUTEX_32, 0};
  *n = 2;
  return false;
}

}  // namespace

void lock(Thread& self, Lock& lock, Heir heir) {
  uint32_t slept = 0;
  for (int spin = 0;;) {
    self.enter();
    futex_waitv v[2];
    uint32_t n;
    if (try_lock(self, lock.word, self.owner() | slept, heir, v, &n)) return;
    bool nested = *self.inside > 1;  // recovery: already in a section, and the lock is a leaf
    self.leave();
    if (spin++ < 100 || nested) {
      cpu_relax();
      if (spin % 32 == 0) thread_yield();
    } else if (n) {
      wait_any(v, n, kBackstop);
      slept = kLockWaiters;
    }
  }
}

void wake_waiter(Lock& lock) { wake_one(lock.word); }

// kRecovery is a leaf, and what it guards is idempotent: it is simply taken over.
void lock(Thread& self, LockName name) {
  lock(self, self.segment.header().locks[name], name == kRecovery ? nullptr : Heir(release_dead));
}
void unlock(Thread& self, LockName name) { unlock(self, self.segment.header().locks[name]); }

}  // namespace godwit::shared
