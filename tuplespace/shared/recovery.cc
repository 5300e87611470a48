// Recovery in two phases. Phase 1 runs under the leaf lock kRecovery and only takes back: it may be cut
// short by a kill at any point and done again. Phase 2 runs under kReaper, holds no other lock of its own
// while it begins a step, and gives back what the dead thread had in its hands.
#include "tuplespace/shared/recovery.hh"

#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/bell.hh"
#include "tuplespace/shared/futex.hh"

namespace godwit::shared {
namespace {

void roll_back(const Segment& segment, Slot& slot) {
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

void reap_slot(Thread& self, uint32_t member, uint32_t index) {
  Slot& slot = self.segment.area_of(member)->slots[index];
  if (slot.state.load() != SlotState::kLive || !slot.dead()) return;
  release_dead(self, member << 10 | index);
  if (slot.intent) free_intent(self, slot);
  wake_watchers(self.segment);  // what the dead thread published last it may not have rung for
  slot.generation++;
  slot.alive_word().store(0);
  compiler_barrier();
  slot.state.store(SlotState::kFree);
}

}  // namespace

void release_dead(Thread& self, uint32_t owner) {
  lock(self, kRecovery);
  Header& header = self.segment.header();
  Slot& slot = self.segment.area_of(owner >> 10)->slots[owner & 1023];
  if (slot.dead()) {
    roll_back(self.segment, slot);
    for (uint32_t name = 0; name < kRecovery; ++name) {
      std::atomic<uint32_t>& word = header.locks[name].word;
      uint32_t seen = word.load();
      while ((seen & ~kLockWaiters) == owner && !word.compare_exchange_weak(seen, 0)) {
      }
      if ((seen & ~kLockWaiters) == owner) wake_all(word);
    }
    wake_all(slot.alive_word());
  }
  unlock(self, kRecovery);
}

uint32_t reap(Thread& self) {
  uint32_t reaped = 0;
  lock(self, kReaper);
  Header& header = self.segment.header();
  for (uint32_t m = 0; m < kMembers; ++m) {
    if (header.members[m].kind == MemberKind::kFree) continue;
    Area* area = self.segment.area_of(m);
    for (uint32_t i = 1; i < area->slot_count.load(); ++i) {
      Slot& slot = area->slots[i];
      if (slot.state.load() == SlotState::kLive && slot.dead()) {
        reap_slot(self, m, i);
        ++reaped;
      }
    }
  }
  unlock(self, kReaper);
  return reaped;
}

}  // namespace godwit::shared
