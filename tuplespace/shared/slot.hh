// Slots: what the segment knows of a thread, and what survives of it when it is killed.
//
// A slot belongs to one thread from claim() to its release or to its reaping. `alive` is a robust
// mutex that only this thread ever locks, and locking it is what claims the slot: at the thread's death, in
// whatever PID namespace and at whatever instruction, the kernel marks the word. Nobody else locks it; they read
// the word and wait on it. Robust mutexes themselves are not
// used as locks: their word holds a TID, and TIDs of different namespaces are equal.
//
// An area holds the slots of one member. A pod's area is a piece: it moves with the pod, so a TID in it
// stays right, and so does the kernel's robust list, which goes through it.
#pragma once
#include <linux/futex.h>
#include <pthread.h>

#include "tuplespace/shared/types.hh"

namespace godwit::shared {

struct UndoEntry {
  uint64_t where;  // offset in the segment << 2 | log2 of the width in bytes - 1
  uint64_t old;
};

inline constexpr uint32_t kUndoEntries = 240;

/// Owners of locks: a member, a slot of its area, and the slot's generation, so that a dead owner is not taken for who has
/// its slot next. 0: nobody.
constexpr uint32_t owner_of(uint32_t member, uint32_t slot, uint32_t generation) {
  return (generation & 2047) << 20 | member << 10 | slot;
}
constexpr uint32_t member_of(uint32_t owner) { return owner >> 10 & 1023; }
constexpr uint32_t slot_index_of(uint32_t owner) { return owner & 1023; }
constexpr bool is_of(uint32_t owner, uint32_t generation) { return owner >> 20 == (generation & 2047); }
inline constexpr uint32_t kLockWaiters = 1u << 31;

/// The word is the owner, and kLockWaiters if somebody waits.
struct alignas(64) Lock {
  std::atomic<uint32_t> word;
};

enum class SlotState : uint32_t { kFree = 0, kLive = 2 };  // kFree and locked: on its way to or from its thread

struct alignas(kPage) Slot {
  pthread_mutex_t alive;
  std::atomic<SlotState> state;
  std::atomic<uint32_t> generation;  // grows with every release and reaping; part of the owner
  std::atomic<uint32_t> pid;         // of the process, as it sees itself; of who has a bench
  alignas(64) uint32_t undo_count;
  uint32_t unused;
  Offset intent;  // a run that this thread took from the allocator or is giving back, and nobody else has
  Offset bench;   // what it has in hand of spaces (store/layout.hh); a slot that has one is reaped by who knows spaces
  Offset owes;    // a socket of others whose ends this mediator is about to ring; reaped by who can do that
  Offset guest_at;  // of a mediator's moment in a pod's area: the socket of which it may have an end's lock
  alignas(64) UndoEntry undo[kUndoEntries];

  std::atomic<uint32_t>& alive_word() {
    return *reinterpret_cast<std::atomic<uint32_t>*>(&alive.__data.__lock);
  }
  bool dead() { return alive_word().load(std::memory_order_relaxed) & FUTEX_OWNER_DIED; }
};
static_assert(sizeof(Slot) == kPage);

inline constexpr uint32_t kProcesses = 32;  // of one pod

struct Process {
  std::atomic<uint32_t> pid;  // in the pod's namespace; 0: free. Stored last
  uint32_t unused;
  uint64_t control;  // address of its Control (wrapper/control.hh)
};

struct alignas(kPage) Area {
  uint32_t member;  // index of the member in this host's segment
  std::atomic<uint32_t> slot_count;  // slots below this have their page; the others must not be touched
  Offset offset;  // where this area lies in this host's segment
  uint64_t pod;   // id in the directory; 0: no pod
  Process processes[kProcesses];
  Slot slots[kHostSlots];  // a pod has kSlots; slots[0] is never used, so that 0 means "no owner"

  uint32_t slot_limit() const { return member == 0 ? kHostSlots : kSlots; }
};

inline constexpr uint64_t area_length(uint32_t slots) {
  return (offsetof(Area, slots) + slots * sizeof(Slot) + kChunk - 1) / kChunk * kChunk;
}
inline constexpr uint64_t kAreaLength = area_length(kSlots);

}  // namespace godwit::shared
