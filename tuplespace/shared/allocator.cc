#include "tuplespace/shared/allocator.hh"

#include <errno.h>
#include <sys/mman.h>

namespace godwit::shared {
namespace {

// Free runs of one length that keep their pages, to be used again without page faults.
constexpr uint32_t kHot = 64;

uint32_t list_of(uint32_t length) { return length < kFreeLists ? length : 0; }

// The thread's own slot as seen through the whole mapping, where undo offsets are taken.
Slot& own_slot(Thread& self) { return self.segment.slot_of(self.owner()); }

// All below: kAllocator held.

uint32_t pop(Thread& self, uint32_t length) {
  Header& header = self.segment.header();
  Chunk* chunks = self.segment.chunks();
  uint32_t list = list_of(length);
  uint32_t* link = &header.free_lists[list];
  while (*link && chunks[*link].length != length) link = &chunks[*link].next;
  uint32_t found = *link;
  if (!found) return 0;
  set(self, link, chunks[found].next);
  set(self, &header.free_counts[list], header.free_counts[list] - 1);
  return found;
}

// New ground at the end of what was ever used.
uint32_t extend(Thread& self, uint32_t length) {
  Header& header = self.segment.header();
  uint32_t first = header.next_chunk;
  if (length > header.chunk_count - first) return 0;
  Chunk* chunk = &self.segment.chunks()[first];
  if (reserve(chunk, sizeof(Chunk)) != 0) return 0;
  set(self, &chunk->length, length);
  set(self, &header.next_chunk, first + length);
  return first;
}

void push(Thread& self, uint32_t first) {
  Header& header = self.segment.header();
  Chunk& chunk = self.segment.chunks()[first];
  uint32_t list = list_of(chunk.length);
  set(self, &chunk.state, RunState::kFree);
  set(self, &chunk.kind, RunKind::kNone);
  set(self, &chunk.next, header.free_lists[list]);
  set(self, &header.free_lists[list], first);
  set(self, &header.free_counts[list], header.free_counts[list] + 1);
  set(self, &header.used_chunks, header.used_chunks - chunk.length);
}

// When no run of the length is left and no new ground: cuts a longer free run in two.
uint32_t split(Thread& self, uint32_t length) {
  Header& header = self.segment.header();
  Chunk* chunks = self.segment.chunks();
  uint32_t longer = 0;
  for (uint32_t list = length + 1; list < kFreeLists && !longer; ++list) longer = header.free_lists[list];
  if (!longer)
    for (longer = header.free_lists[0]; longer && chunks[longer].length <= length;) longer = chunks[longer].next;
  if (!longer) return 0;
  uint32_t whole = chunks[longer].length, rest = longer + length;
  if (reserve(&chunks[rest], sizeof(Chunk)) != 0) return 0;
  pop(self, whole);
  set(self, &chunks[longer].length, length);
  set(self, &chunks[rest].length, whole - length);
  set(self, &header.used_chunks, header.used_chunks + (whole - length));  // push takes it off again
  push(self, rest);
  return longer;
}

void give_back(Thread& self, Slot& slot) {
  Header& header = self.segment.header();
  uint32_t first = static_cast<uint32_t>(slot.intent / kChunk);
  Chunk& chunk = self.segment.chunks()[first];
  // Nobody but us can reach the run, so its pages may go before the lock is taken.
  if (__atomic_load_n(&header.free_counts[list_of(chunk.length)], __ATOMIC_RELAXED) >= kHot)
    madvise(self.segment.base() + slot.intent, chunk.length * kChunk, MADV_REMOVE);
  lock(self, kAllocator);
  push(self, first);
  set(self, &slot.intent, Offset{0});
  commit(self);
  unlock(self, kAllocator);
}

}  // namespace

int allocate(Thread& self, uint64_t length, RunKind kind, uint64_t pod, Offset* out) {
  uint32_t chunks = static_cast<uint32_t>((length + kChunk - 1) / kChunk);
  lock(self, kAllocator);
  Header& header = self.segment.header();
  uint32_t first = pop(self, chunks);
  if (!first) first = extend(self, chunks);
  if (!first) first = split(self, chunks);
  if (first) {
    Chunk& chunk = self.segment.chunks()[first];
    set(self, &chunk.state, RunState::kUsed);
    set(self, &chunk.kind, kind);
    set(self, &chunk.pod, pod);
    set(self, &header.used_chunks, header.used_chunks + chunk.length);
    set(self, &own_slot(self).intent, first * kChunk);
    commit(self);
  }
  unlock(self, kAllocator);
  *out = first * kChunk;
  return first ? 0 : -ENOSPC;
}

void publish(Thread& self) {
  compiler_barrier();
  self.slot->intent = 0;
  compiler_barrier();
}

void intend(Thread& self, Offset run) {
  compiler_barrier();
  self.slot->intent = run;
  compiler_barrier();
}

void free_intent(Thread& self) {
  Section section(self);
  give_back(self, own_slot(self));
}

void free_intent(Thread& self, Slot& slot) { give_back(self, slot); }

}  // namespace godwit::shared
