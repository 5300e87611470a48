#include "tuplespace/shared/allocator.hh"

#include <errno.h>
#include <sys/mman.h>

#include <algorithm>

namespace godwit::shared {
namespace {

// Free runs of one length keep their pages, to be used again without page faults: so many, and so many chunks of them.
constexpr uint32_t kHot = 64, kHotChunks = 1024;

uint32_t list_of(uint32_t length) { return length < kFreeLists ? length : 0; }

// The thread's own slot as seen through the whole mapping, where undo offsets are taken.
Slot& own_slot(Thread& self) { return self.segment.slot_of(self.owner()); }

// All below: kAllocator held, unless it says otherwise.

bool is_in_use(const Header& header, uint32_t chunk) {
  return chunk >= header.first_chunk && chunk < __atomic_load_n(&header.next_chunk, __ATOMIC_ACQUIRE);
}

// The link to the list's first run of `length` chunks (list 0: or `longer`); null: there is none, as far as the list is
// whole. A list that is damaged costs memory, no more.
uint32_t* find(Thread& self, uint32_t list, uint32_t length, bool longer) {
  Header& header = self.segment.header();
  Chunk* chunks = self.segment.chunks();
  uint32_t* link = &header.free_lists[list];
  for (uint32_t left = header.free_counts[list]; left && is_in_use(header, *link); --left) {
    Chunk& chunk = chunks[*link];
    if (chunk.state != RunState::kFree || list_of(chunk.length) != list) return nullptr;
    if (chunk.length == length || (longer && chunk.length > length)) return link;
    link = &chunk.next;
  }
  return nullptr;
}

uint32_t take_off(Thread& self, uint32_t* link) {
  const Chunk& chunk = self.segment.chunks()[*link];
  uint32_t found = *link, *count = &self.segment.header().free_counts[list_of(chunk.length)];
  set(self, link, chunk.next);
  set(self, count, *count - 1);
  return found;
}

uint32_t pop(Thread& self, uint32_t length) {
  uint32_t* link = find(self, list_of(length), length, false);
  return link ? take_off(self, link) : 0;
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

void enlist(Thread& self, uint32_t first) {
  Header& header = self.segment.header();
  Chunk& chunk = self.segment.chunks()[first];
  uint32_t list = list_of(chunk.length);
  set(self, &chunk.next, header.free_lists[list]);
  set(self, &header.free_lists[list], first);
  set(self, &header.free_counts[list], header.free_counts[list] + 1);
}

void push(Thread& self, uint32_t first) {
  Header& header = self.segment.header();
  Chunk& chunk = self.segment.chunks()[first];
  set(self, &chunk.state, RunState::kFree);
  set(self, &chunk.kind, RunKind::kNone);
  set(self, &header.used_chunks, header.used_chunks - chunk.length);
  enlist(self, first);
}

// When no run of the length is left and no new ground: cuts a longer free run in two.
uint32_t split(Thread& self, uint32_t length) {
  Header& header = self.segment.header();
  Chunk* chunks = self.segment.chunks();
  uint32_t* link = nullptr;
  for (uint32_t list = length + 1; list < kFreeLists && !link; ++list) link = find(self, list, list, false);
  if (!link) link = find(self, 0, length + 1, true);
  if (!link) return 0;
  uint32_t longer = *link, whole = chunks[longer].length, rest = longer + length;
  if (reserve(&chunks[rest], sizeof(Chunk)) != 0) return 0;
  take_off(self, link);
  set(self, &chunks[longer].length, length);
  set(self, &chunks[rest].length, whole - length);
  set(self, &header.used_chunks, header.used_chunks + (whole - length));  // push takes it off again
  push(self, rest);
  return longer;
}

// Makes one run of free ones that lie side by side. The lists are made anew, a transaction a run: the table of chunks
// says what is free, so who comes after a death in the middle finds that again.
void coalesce(Thread& self) {
  Header& header = self.segment.header();
  Chunk* chunks = self.segment.chunks();
  for (uint32_t list = 0; list < kFreeLists; ++list) {
    set(self, &header.free_lists[list], 0u);
    set(self, &header.free_counts[list], 0u);
  }
  commit(self);
  auto is_free = [&](uint32_t c) { return is_in_use(header, c) && chunks[c].state == RunState::kFree && chunks[c].length; };
  for (uint32_t c = header.first_chunk; is_in_use(header, c) && chunks[c].length; c += chunks[c].length) {
    if (!is_free(c)) continue;
    uint32_t length = chunks[c].length;
    while (is_free(c + length)) length += chunks[c + length].length;
    set(self, &chunks[c].length, length);
    enlist(self, c);
    commit(self);
  }
}

uint32_t find_run(Thread& self, uint32_t length) {
  Header& header = self.segment.header();
  uint32_t first = pop(self, length);
  if (!first) first = extend(self, length);
  if (!first) first = split(self, length);
  if (first || header.next_chunk - header.first_chunk - header.used_chunks < length) return first;
  coalesce(self);
  first = pop(self, length);
  return first ? first : split(self, length);
}

// A slot whose word is damaged has nothing in hand. Without the lock, of a run that is its own.
bool is_run(const Segment& segment, uint32_t first) {
  return is_in_use(segment.header(), first) && segment.chunks()[first].state == RunState::kUsed;
}

void give_back(Thread& self, Slot& slot) {
  Header& header = self.segment.header();
  uint32_t first = static_cast<uint32_t>(slot.intent / kChunk);
  if (!is_run(self.segment, first)) {
    slot.intent = 0;
    return;
  }
  Chunk& chunk = self.segment.chunks()[first];
  // Nobody but us can reach the run, so its pages may go before the lock is taken.
  uint64_t hot = uint64_t{__atomic_load_n(&header.free_counts[list_of(chunk.length)], __ATOMIC_RELAXED)} + 1;
  if (hot > kHot || hot * chunk.length > kHotChunks)
    madvise(self.segment.base() + slot.intent, chunk.length * kChunk, MADV_REMOVE);
  lock(self, kAllocator);
  push(self, first);
  set(self, &slot.intent, Offset{0});
  commit(self);
  unlock(self, kAllocator);
}

constexpr uint32_t kReserve = 256;  // chunks, at most

// Tuples leave some chunks, so that in a full segment threads can still join, to take tuples or to drop spaces.
bool is_left(const Header& header, uint32_t chunks, RunKind kind) {
  if (kind != RunKind::kBlocks && kind != RunKind::kTuple && kind != RunKind::kTable) return true;
  uint32_t all = header.chunk_count - header.first_chunk, reserve = std::min(all / 16, kReserve);
  return header.used_chunks + chunks + reserve <= all;
}

}  // namespace

int allocate(Thread& self, uint64_t length, RunKind kind, uint64_t pod, Offset* out) {
  uint32_t chunks = static_cast<uint32_t>((length + kChunk - 1) / kChunk);
  lock(self, kAllocator);
  Header& header = self.segment.header();
  uint32_t first = is_left(header, chunks, kind) ? find_run(self, chunks) : 0;
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
