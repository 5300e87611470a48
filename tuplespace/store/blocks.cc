#include "tuplespace/store/blocks.hh"

#include <algorithm>
#include <array>
#include <bit>

#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/recovery.hh"

namespace godwit::store {
namespace {

using namespace shared;

constexpr uint32_t kHead = 64;              // of a chunk of blocks; bytes
constexpr uint32_t kCacheBytes = 32 << 10;  // what a cache of one class keeps at most: it pins chunks

// The head of a chunk that is cut into blocks. kBlocks held.
struct BlockChunk {
  uint32_t next, previous;  // chunks of the class with a free block
  uint32_t size_class;
  uint32_t capacity;
  uint32_t free;
  Ref first_free;
  uint32_t fresh;           // blocks from here on were never used
  uint32_t listed;
};

constexpr auto kSizes = [] {
  std::array<uint32_t, kBlockClasses> sizes{};
  uint32_t n = 0;
  for (uint32_t size = 32; size <= 8192; size += size < 128 ? 16 : std::max(16u, std::bit_floor(size) / 4)) sizes[n++] = size;
  for (uint32_t parts : {6, 5, 4, 3, 2, 1}) sizes[n++] = (65536 - kHead) / parts / kUnit * kUnit;
  return sizes;
}();
constexpr uint32_t kClasses = std::find(kSizes.begin(), kSizes.end(), 0u) - kSizes.begin();
static_assert(kClasses < kBlockClasses && kSizes[kClasses - 1] == kLargestBlock);

constexpr auto kClassOf = [] {  // by size in units
  std::array<uint8_t, kLargestBlock / kUnit + 1> table{};
  for (uint32_t units = 0, c = 0; units < table.size(); ++units) {
    while (kSizes[c] < units * kUnit) ++c;
    table[units] = static_cast<uint8_t>(c);
  }
  return table;
}();

uint32_t batch_of(uint32_t c) { return std::clamp(kCacheBytes / 2 / kSizes[c], 1u, 32u); }

Ref& next_of(Desk& desk, Ref block) { return desk.at<Ref>(block); }

BlockChunk& chunk_at(Desk& desk, uint32_t chunk) {
  BlockChunk& c = desk.at<BlockChunk>(static_cast<Ref>(chunk * kChunkUnits));
  if (c.size_class >= kClasses) throw Damaged();
  return c;
}
uint32_t chunk_number(Ref block) { return static_cast<uint32_t>(block / kChunkUnits); }

// All below, to refill(): kBlocks held, within a transaction.

void list(Desk& desk, uint32_t chunk) {
  BlockChunk& c = chunk_at(desk, chunk);
  BlockClass& of = desk.header().block_classes[c.size_class];
  desk.set(&c.previous, 0u);
  desk.set(&c.next, of.partial);
  if (of.partial) desk.set(&chunk_at(desk, of.partial).previous, chunk);
  desk.set(&of.partial, chunk);
  desk.set(&of.partial_count, of.partial_count + 1);
  desk.set(&c.listed, 1u);
}

void unlist(Desk& desk, uint32_t chunk) {
  BlockChunk& c = chunk_at(desk, chunk);
  BlockClass& of = desk.header().block_classes[c.size_class];
  if (c.previous) desk.set(&chunk_at(desk, c.previous).next, c.next);
  else desk.set(&of.partial, c.next);
  if (c.next) desk.set(&chunk_at(desk, c.next).previous, c.previous);
  desk.set(&of.partial_count, of.partial_count - 1);
  desk.set(&c.listed, 0u);
}

// A new chunk for the class, listed. Begins and ends without a transaction.
bool add_chunk(Desk& desk, uint32_t size_class) {
  Offset run;
  if (allocate(desk.self, kChunk, RunKind::kBlocks, 0, &run) != 0) return false;
  if (reserve(desk.self.segment.at<char>(run), kChunk) != 0) {
    free_intent(desk.self);
    return false;
  }
  uint32_t chunk = static_cast<uint32_t>(run / kChunk), capacity = (kChunk - kHead) / kSizes[size_class];
  *desk.self.segment.at<BlockChunk>(run) = BlockChunk{0, 0, size_class, capacity, capacity, 0, 0, 0};
  list(desk, chunk);
  desk.set(&desk.self.segment.chunks()[chunk].block_bytes, kSizes[size_class]);
  desk.set(&desk.slot().intent, Offset{0});
  desk.commit();
  return true;
}

// Moves one run of free blocks of the first chunk into the cache.
void draw(Desk& desk, Cache& cache, uint32_t size_class, uint32_t want) {
  uint32_t chunk = desk.header().block_classes[size_class].partial, got = 0;
  BlockChunk& c = chunk_at(desk, chunk);
  Ref first = 0, last = 0;
  if (c.first_free) {
    first = last = c.first_free;
    for (got = 1; got < want && next_of(desk, last); ++got) last = next_of(desk, last);
    desk.set(&c.first_free, next_of(desk, last));
    desk.set(&next_of(desk, last), cache.head);
  } else {
    got = std::min(want, c.capacity - c.fresh);
    Ref base = static_cast<Ref>(chunk * kChunkUnits + kHead / kUnit);
    for (uint32_t i = 0; i < got; ++i, first = last) {  // nobody knows these yet: no undo
      last = base + (c.fresh + i) * (kSizes[size_class] / kUnit);
      next_of(desk, last) = i ? first : cache.head;
    }
    desk.set(&c.fresh, c.fresh + got);
  }
  desk.set(&c.free, c.free - got);
  if (c.free == 0) unlist(desk, chunk);
  desk.set(&cache.head, first);
  desk.set(&cache.count, cache.count + got);
  desk.commit();
}

// kBlocks while it lives; what was not committed when damage is found is undone.
class BlocksLock {
 public:
  explicit BlocksLock(Desk& desk) : desk_(desk) { lock(desk.self, kBlocks); }
  ~BlocksLock() {
    if (desk_.slot().undo_count) roll_back(desk_.self.segment, desk_.slot());
    unlock(desk_.self, kBlocks);
  }

 private:
  Desk& desk_;
};

bool refill(Desk& desk, uint32_t size_class) {
  BlocksLock locked(desk);
  bool there = desk.header().block_classes[size_class].partial || add_chunk(desk, size_class);
  if (there) draw(desk, desk.bench->caches[size_class], size_class, batch_of(size_class));
  return there;
}

// Moves one block from the cache back to its chunk. returns the chunk's run if that is empty now and nobody's any more.
bool put_back(Desk& desk, Cache& cache) {
  Ref block = cache.head;
  uint32_t chunk = chunk_number(block);
  BlockChunk& c = chunk_at(desk, chunk);
  if (c.free >= c.capacity) throw Damaged();
  desk.set(&cache.head, next_of(desk, block));
  desk.set(&cache.count, cache.count - 1);
  desk.set(&next_of(desk, block), c.first_free);
  desk.set(&c.first_free, block);
  desk.set(&c.free, c.free + 1);
  if (!c.listed) list(desk, chunk);
  bool whole = c.free == c.capacity && desk.header().block_classes[c.size_class].partial_count > 1;
  if (whole) {
    unlist(desk, chunk);
    desk.set(&desk.slot().intent, Offset{chunk} * kChunk);
  }
  desk.commit();
  return whole;
}

void flush(Desk& desk, Cache& cache, uint32_t keep) {
  while (cache.head && cache.count > keep) {
    bool whole = false;
    {
      BlocksLock locked(desk);
      while (!whole && cache.head && cache.count > keep) whole = put_back(desk, cache);
    }
    if (whole) free_intent(desk.self);
  }
}

// The smallest class whose blocks hold `bytes`.
uint32_t class_for(uint64_t bytes) { return kClassOf[(bytes + kUnit - 1) / kUnit]; }

bool is_run(Desk& desk, Ref ref) {
  (void)next_of(desk, ref);
  return desk.chunk_of(ref).kind != RunKind::kBlocks;
}
uint32_t class_of(Desk& desk, Ref block) {
  uint32_t bytes = desk.chunk_of(block).block_bytes;
  if (bytes == 0 || bytes > kLargestBlock) throw Damaged();
  return class_for(bytes);
}

void free_run(Desk& desk, Bench& bench, uint32_t hand) {
  desk.set(&desk.slot().intent, Offset{bench.in_hand[hand]} * kUnit);
  desk.set(&bench.in_hand[hand], Ref{0});
  desk.commit();
  free_intent(desk.self);
}

Ref take_run(Desk& desk, Hand hand, uint64_t bytes, RunKind kind) {
  Offset run;
  if (allocate(desk.self, bytes, kind, 0, &run) != 0) return 0;
  if (reserve(desk.self.segment.at<char>(run), bytes) != 0) {
    free_intent(desk.self);
    return 0;
  }
  Ref ref = static_cast<Ref>(run / kUnit);
  desk.set(&desk.bench->in_hand[hand], ref);
  desk.set(&desk.slot().intent, Offset{0});
  desk.commit();
  return ref;
}

}  // namespace

uint64_t block_size(uint8_t size_class) { return kSizes[size_class]; }

Ref take(Desk& desk, Hand hand, uint64_t bytes, RunKind run_kind) {
  if (bytes > kLargestBlock) return take_run(desk, hand, bytes, run_kind);
  uint32_t size_class = class_for(bytes);
  Cache& cache = desk.bench->caches[size_class];
  if (!cache.head && !refill(desk, size_class)) return 0;
  Ref block = cache.head;
  Ref next = next_of(desk, block);
  *static_cast<volatile Ref*>(&desk.bench->in_hand[hand]) = block;
  compiler_barrier();
  *static_cast<volatile Ref*>(&cache.head) = next;
  compiler_barrier();
  cache.count--;
  return block;
}

void give_back(Desk& desk, Hand hand) {
  Bench& bench = *desk.bench;
  Ref block = bench.in_hand[hand];
  if (is_run(desk, block)) return free_run(desk, bench, hand);
  uint32_t size_class = class_of(desk, block);
  Cache& cache = bench.caches[size_class];
  next_of(desk, block) = cache.head;
  compiler_barrier();
  *static_cast<volatile Ref*>(&cache.head) = block;
  compiler_barrier();
  cache.count++;
  *static_cast<volatile Ref*>(&bench.in_hand[hand]) = 0;
  compiler_barrier();
  if (cache.count > 2 * batch_of(size_class)) flush(desk, cache, batch_of(size_class));
}

void empty_hands(Desk& desk) noexcept {
  roll_back(desk.self.segment, desk.slot());
  for (uint32_t hand = 0; hand < 2 * kHandCount; ++hand) {
    try {
      give(desk, static_cast<Hand>(hand));
    } catch (const Damaged&) {
      desk.bench->in_hand[hand] = 0;
    }
  }
}

void put_aside(Desk& desk) {
  Ref* hands = desk.bench->in_hand;
  for (uint32_t i = 0; i < kHandCount; ++i) desk.set(&hands[i + kHandCount], hands[i]), desk.set(&hands[i], Ref{0});
  desk.commit();
}

void take_up(Desk& desk) {
  Ref* hands = desk.bench->in_hand;
  for (uint32_t i = 0; i < kHandCount; ++i) desk.set(&hands[i], hands[i + kHandCount]), desk.set(&hands[i + kHandCount], Ref{0});
  desk.commit();
}

void flush_all(Desk& desk, Bench& bench) {
  for (uint32_t c = 0; c < kClasses; ++c) {
    // A death may have left the count behind the list.
    bench.caches[c].count = ~0u;
    flush(desk, bench.caches[c], 0);
    bench.caches[c].count = 0;
  }
}

void give_dead(Desk& desk, Bench& dead) {
  for (uint32_t hand = 0; hand < 2 * kHandCount; ++hand) {
    Ref block = dead.in_hand[hand];
    if (!block) continue;
    if (is_run(desk, block)) {
      free_run(desk, dead, hand);
      continue;
    }
    Cache& cache = dead.caches[class_of(desk, block)];
    if (cache.head != block) {
      next_of(desk, block) = cache.head;
      compiler_barrier();
      cache.head = block;
    }
    compiler_barrier();
    dead.in_hand[hand] = 0;
  }
  flush_all(desk, dead);
}

}  // namespace godwit::store
