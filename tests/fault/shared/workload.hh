// What the fault tests make members of a segment do: take runs, publish them in a table, take them out again and
// give them back. What is left when everybody is dead can be counted exactly.
#pragma once
#include <random>
#include <vector>
#include <set>

#include "tests/support/segment.hh"
#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/futex.hh"
#include "tuplespace/shared/socket.hh"

namespace godwit::testing {

inline constexpr uint32_t kCells = 128;

/// Lies in a run of the segment, so that stores to it go through the undo log.
struct Ledger {
  shared::Offset cells[kCells];
};

inline Ledger* make_ledger(shared::Thread& self) {
  shared::Offset offset;
  EXPECT_EQ(allocate(self, sizeof(Ledger), shared::RunKind::kSet, 0, &offset), 0);
  auto* ledger = self.segment.at<Ledger>(offset);
  EXPECT_EQ(shared::reserve(ledger, sizeof *ledger), 0);
  shared::publish(self);
  return ledger;
}

inline shared::Offset* own_intent(shared::Thread& self) {
  return &self.segment.area_of(self.area->member)->slots[self.slot_index].intent;
}

/// What a member has in hand, noted by itself in shared memory just inside the stretches that count: whoever looks
/// after its death may be too late, because others take its locks over at once.
enum Hand : uint32_t { kNothing = 0, kLockInHand = 1, kUndoInHand = 2, kIntentInHand = 4 };

/// Takes a run, shows it in the cell, and gives back the run that was there.
inline void turn_over(shared::Thread& self, Ledger* ledger, uint32_t cell, uint64_t length,
                      volatile uint32_t* hand) {
  using namespace shared;
  Section section(self);
  Offset fresh;
  if (allocate(self, length, RunKind::kSocket, 1, &fresh) != 0) return;
  *hand = kIntentInHand;
  lock(self, kDirectory);
  *hand = kIntentInHand | kLockInHand;
  Offset old = ledger->cells[cell];
  set(self, &ledger->cells[cell], fresh);
  *hand = kIntentInHand | kLockInHand | kUndoInHand;
  set(self, own_intent(self), old);
  *hand = kIntentInHand | kLockInHand;
  commit(self);
  *hand = old ? kIntentInHand : kNothing;
  unlock(self, kDirectory);
  if (old) free_intent(self);
  *hand = kNothing;
}

/// Every run is in the ledger or free, once; lists, counts and locks are whole. All other members are dead and reaped.
inline void expect_whole(shared::Segment segment, Ledger* ledger) {
  using namespace shared;
  Header& header = segment.header();
  for (uint32_t i = 0; i < kLocks; ++i) EXPECT_EQ(header.locks[i].word.load(), 0u) << "lock " << i;
  std::set<Offset> shown;
  for (Offset run : ledger->cells) {
    EXPECT_TRUE(!run || shown.insert(run).second) << "doubled";
  }
  std::set<uint32_t> free_runs;
  for (uint32_t list = 0; list < kFreeLists; ++list) {
    uint32_t count = 0;
    for (uint32_t c = header.free_lists[list]; c; c = segment.chunks()[c].next, ++count) {
      EXPECT_EQ(segment.chunks()[c].state, RunState::kFree);
      ASSERT_TRUE(free_runs.insert(c).second) << "a run is listed twice";
    }
    EXPECT_EQ(count, header.free_counts[list]);
  }
  uint64_t used = 0;
  uint32_t sockets = 0;
  for (uint32_t c = header.first_chunk; c < header.next_chunk; c += segment.chunks()[c].length) {
    const Chunk& chunk = segment.chunks()[c];
    ASSERT_GT(chunk.length, 0u);
    if (chunk.state != RunState::kUsed) {
      EXPECT_TRUE(free_runs.contains(c)) << "leaked";
      continue;
    }
    used += chunk.length;
    if (chunk.kind != RunKind::kSocket) continue;
    ++sockets;
    EXPECT_TRUE(shown.contains(c * kChunk)) << "leaked: used, but nobody has it";
  }
  EXPECT_EQ(sockets, shown.size());
  EXPECT_EQ(used, header.used_chunks);
}

}  // namespace godwit::testing
