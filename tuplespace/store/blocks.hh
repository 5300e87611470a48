// Small blocks: 64 KiB chunks, each cut into blocks of one size; a cache of free ones on every bench.
//
// A block is in its chunk's list, in a cache, in somebody's hand (Bench::in_hand), or used. pop: in_hand = b, then
// head = b.next; push: b.next = head, head = b, in_hand = 0. So after a death, what is in hand belongs to the cache if
// it is its head, and else to nobody. Tuples that are too large for a block have a run of chunks.
#pragma once
#include "tuplespace/store/desk.hh"

namespace godwit::store {

/// Classes: four sizes to the doubling, then whole parts of a chunk.
inline constexpr uint32_t kLargestBlock = 65472;

uint64_t block_size(uint8_t size_class);

enum Hand : uint32_t { kFirstHand = 0, kSecondHand = 1, kThirdHand = 2 };  // the third: leases of mortal tuples (leases.hh)
inline constexpr uint32_t kHandCount = 3;  // as many again are put aside

/// Takes a block or a run of at least `bytes` into that hand, which is empty. Its pages are there.
/// returns 0 when the segment, or /dev/shm, is full.
Ref take(Desk& desk, Hand hand, uint64_t bytes, shared::RunKind run_kind = shared::RunKind::kTuple);
void give_back(Desk& desk, Hand hand);
/// Gives back what is in that hand, if anything is.
inline void give(Desk& desk, Hand hand) {
  if (desk.bench->in_hand[hand]) give_back(desk, hand);
}
/// After damage was found: ends a transaction that was begun, and gives back what is in both hands as far as it is whole.
void empty_hands(Desk& desk) noexcept;
/// The same for the bench of a dead thread, and empties its caches. kReaper held, no other lock.
void give_dead(Desk& desk, Bench& dead);
/// Puts what is in the hands aside, and takes it up again: in between they are free.
void put_aside(Desk& desk);
void take_up(Desk& desk);
/// Empties the caches.
void flush_all(Desk& desk, Bench& bench);

/// Bytes of memory that the block or run at `ref`, followed before, takes.
inline uint64_t memory_of(const Desk& desk, Ref ref) {
  const shared::Chunk& chunk = desk.chunk_of(ref);
  if (chunk.kind == shared::RunKind::kBlocks) return chunk.block_bytes;
  bool is_run = chunk.kind == shared::RunKind::kTuple || chunk.kind == shared::RunKind::kTable;
  if (!is_run || ref % kChunkUnits != 0 || chunk.state != shared::RunState::kUsed) throw Damaged();
  return chunk.length * kChunk;
}
/// Damaged unless that many bytes from `ref` on lie in its block or run.
inline void check_room(const Desk& desk, Ref ref, uint64_t bytes) {
  if (bytes > memory_of(desk, ref)) throw Damaged();
  uint64_t offset = ref % kChunkUnits * kUnit;
  if (offset != 0 && offset + bytes > kChunk) throw Damaged();
}

/// What the hand holds has been shown to others, within a transaction.
inline void put_down(Desk& desk, Hand hand) { desk.set(&desk.bench->in_hand[hand], Ref{0}); }
/// What nobody else can reach any more is to be given back.
inline void pick_up(Desk& desk, Hand hand, Ref ref) { desk.set(&desk.bench->in_hand[hand], ref); }

}  // namespace godwit::store
