// A thread's standing in the segment: its slot, its sections, its undo log.
//
// Exactly one Thread per OS thread and segment; not shared. In a wrapped program it lives in
// initial-exec TLS and its `inside` and `park` are those of wrapper/control.hh; elsewhere they are its own.
#pragma once
#include "tuplespace/shared/segment.hh"

namespace godwit::shared {

struct Thread {
  Segment segment;
  Area* area = nullptr;  // of this thread's member; in a pod an address that a move keeps
  Slot* slot = nullptr;
  uint32_t slot_index = 0;
  uint32_t busy = 0;     // holds an end's lock, or is inside: the program's signal handlers are put off
  bool deferred = false; // a signal was put off
  uint32_t* inside = &own_inside_;
  uint32_t* park = &own_park_;
  void (*leaving)(Thread&) = nullptr;  // called with inside == 0 when park or deferred is set

  uint32_t owner() const { return owner_of(area->member, slot_index, slot->generation); }

  /// A section: code that uses addresses of the whole mapping. Never waits inside.
  void enter() {
    ++busy;
    *static_cast<volatile uint32_t*>(inside) = *inside + 1;
    compiler_barrier();
  }
  void leave() {
    compiler_barrier();
    *static_cast<volatile uint32_t*>(inside) = *inside - 1;
    hold_ends();
  }
  /// A stretch that must not be interrupted by the program's handlers, but may be frozen and moved.
  void hold() {
    ++busy;
    compiler_barrier();
  }
  void hold_ends() {
    compiler_barrier();
    --busy;
    if (__builtin_expect((*static_cast<volatile uint32_t*>(park) && !*inside) || (deferred && !busy), 0) &&
        leaving)
      leaving(*this);
  }

 private:
  uint32_t own_inside_ = 0;
  uint32_t own_park_ = 0;
};

/// RAII for enter() and leave().
class Section {
 public:
  explicit Section(Thread& self) : self_(self) { self_.enter(); }
  ~Section() { self_.leave(); }
  Section(const Section&) = delete;
  Section& operator=(const Section&) = delete;

 private:
  Thread& self_;
};

/// Claims a slot of `area` for the calling thread and locks its alive word.
/// self.segment must be set. returns 0; -EUSERS: all slots are taken; -ENOSPC.
int claim_slot(Thread& self, Area* area);
/// Gives the slot back; the thread holds no lock and has no intent.
void release_slot(Thread& self);

// --- locks of the whole segment (inside a section) ---------------------------------------------

/// Frees what a dead owner holds, this lock among it. Null: the lock is simply taken over.
using Heir = void (*)(Thread& self, uint32_t owner);

/// Takes the lock, recovering what a dead owner left. Enters a section that unlock() leaves.
/// The thread has nothing in its undo log, unless the lock is kRecovery.
void lock(Thread& self, Lock& lock, Heir heir);
void wake_waiter(Lock& lock);
inline void unlock(Thread& self, Lock& lock) {
  compiler_barrier();
  if (lock.word.exchange(0, std::memory_order_release) & kLockWaiters) wake_waiter(lock);
  self.leave();
}
void lock(Thread& self, LockName name);
void unlock(Thread& self, LockName name);

// --- undo log ----------------------------------------------------------------------------------

/// The log is full: takes back what is in it, and keeps what follows from being stored. returns false.
bool overflow(Thread& self);

/// Stores v at *p, which lies in the whole mapping, so that a death before commit() takes it back.
/// returns false if the log cannot hold it: then no store of this transaction stands, nor will. Transactions of this
/// folder have a few stores each, whatever the segment holds; who loops asks.
template <class T>
inline bool set(Thread& self, T* p, T v) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  Slot& slot = *self.slot;
  uint32_t n = slot.undo_count;
  if (__builtin_expect(n >= kUndoEntries, 0)) return overflow(self);
  UndoEntry& entry = slot.undo[n];
  entry.where = self.segment.offset_of(p) << 2 | (sizeof(T) == 8 ? 2 : 1);
  entry.old = 0;
  __builtin_memcpy(&entry.old, p, sizeof(T));
  compiler_barrier();
  *static_cast<volatile uint32_t*>(&slot.undo_count) = n + 1;
  compiler_barrier();
  if constexpr (sizeof(T) == 8) {
    uint64_t bits;
    __builtin_memcpy(&bits, &v, 8);
    __atomic_store_n(reinterpret_cast<uint64_t*>(p), bits, __ATOMIC_RELEASE);
  } else {
    uint32_t bits;
    __builtin_memcpy(&bits, &v, 4);
    __atomic_store_n(reinterpret_cast<uint32_t*>(p), bits, __ATOMIC_RELEASE);
  }
  compiler_barrier();
  return true;
}

/// All stores since the last commit stand. Before any unlock().
inline void commit(Thread& self) {
  compiler_barrier();
  *static_cast<volatile uint32_t*>(&self.slot->undo_count) = 0;
  compiler_barrier();
}

// --- recovery ----------------------------------------------------------------------------------

/// Reaps every dead slot of every member: undoes, unlocks, gives back. returns how many.
/// Slots that have a bench or owe a ring are left to whoever knows spaces.
uint32_t reap(Thread& self);

}  // namespace godwit::shared
