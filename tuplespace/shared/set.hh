// Readiness of an epoll set: a two-level bitmap, indexed by descriptor number, that ringers mark and the
// set's owner harvests. A piece of the owner's pod; ringers reach it through the whole mapping.
//
// Rule of harvest: clear the bit, then look. Rule of mark: publish, fence, mark. So a change is either seen
// by the look or leaves its bit behind.
#pragma once
#include "tuplespace/shared/thread.hh"

namespace godwit::shared {

inline constexpr uint32_t kSetSize = 65536;  // descriptor numbers that can be watched

struct WatchEntry {
  uint32_t events;     // as given to epoll_ctl; 0: not watched, or oneshot that has fired
  uint32_t word;       // descriptor word (wrapper/control.hh); 0: free
  uint64_t data;       // epoll_data of the program
  uint64_t socket;     // address of the socket's piece
  uint32_t side;       // which end
  uint32_t generation; // of the socket, to notice a piece that was freed and taken again
};

inline constexpr uint32_t kEntriesPerPage = kPage / sizeof(WatchEntry);

struct alignas(kPage) Set {
  std::atomic<uint32_t> armed;   // generation << 1 | somebody sleeps in epoll_wait
  std::atomic<uint32_t> inside;  // sleepers
  std::atomic<uint32_t> lock;    // an end lock (end_lock.hh): one harvests at a time
  uint32_t cursor;               // where the next harvest begins, for fairness
  std::atomic<uint32_t> entry_limit;  // entries from here on have no page yet and must not be touched
  uint32_t unused;
  Offset offset;                 // of this piece in this host's segment
  uint64_t pod;
  alignas(64) std::atomic<uint64_t> summary[kSetSize / 4096];
  alignas(kPage) std::atomic<uint64_t> leaf[kSetSize / 64];
  alignas(kPage) WatchEntry entries[kSetSize];  // a page is reserved when its first entry is used
};

inline constexpr uint64_t kSetLength = (sizeof(Set) + kChunk - 1) / kChunk * kChunk;
inline constexpr uint64_t kSetHead = offsetof(Set, entries);  // reserved when the set is made

/// Allocates an empty set of `pod`, its head reserved. It is the caller's intent until publish().
/// returns 0 or -ENOSPC.
int allocate_set(Thread& self, uint64_t pod, Offset* out);

/// Makes entries[index] usable. The set is reached through any mapping. returns 0 or -ENOSPC.
inline int reserve_entry(Set& set, uint32_t index) {
  uint32_t limit = set.entry_limit.load();
  if (index < limit) return 0;
  uint32_t end = (index / kEntriesPerPage + 1) * kEntriesPerPage;
  if (int e = reserve(&set.entries[limit], (end - limit) * sizeof(WatchEntry))) return e;
  while (limit < end && !set.entry_limit.compare_exchange_weak(limit, end)) {
  }
  return 0;
}

inline void mark(Set& set, uint32_t index) {
  uint64_t bit = 1ull << (index & 63);
  std::atomic<uint64_t>& leaf = set.leaf[index >> 6];
  if (!(leaf.load() & bit)) leaf.fetch_or(bit);
  uint64_t group = 1ull << ((index >> 6) & 63);
  std::atomic<uint64_t>& summary = set.summary[index >> 12];
  if (!(summary.load() & group)) summary.fetch_or(group);
}

inline bool any_marked(const Set& set) {
  for (const auto& word : set.summary)
    if (word.load(std::memory_order_relaxed)) return true;
  return false;
}

/// Says that somebody is about to sleep in the set: look at any_marked() after it.
inline void arm(Set& set) {
  uint32_t seen = set.armed.load();
  while (!set.armed.compare_exchange_weak(seen, ((seen >> 1) + 1) << 1 | 1)) {
  }
}
inline void disarm(Set& set, uint32_t seen) { set.armed.compare_exchange_strong(seen, seen & ~1u); }

/// Visits marked indexes, each once, from the cursor on: clears the bit, then calls visit(index), which looks.
/// visit returns false to stop. Called by one thread at a time.
template <class Visit>
void harvest(Set& set, Visit visit) {
  constexpr uint32_t kGroups = kSetSize / 4096;
  for (uint32_t k = 0; k < kGroups; ++k) {
    std::atomic<uint64_t>& summary = set.summary[k];
    uint64_t todo = summary.load();
    // Begin at the cursor, so that low numbers do not starve high ones.
    uint64_t upper = todo >> (set.cursor & 63) << (set.cursor & 63);
    for (uint64_t part : {upper, todo & ~upper}) {
      for (; part; part &= part - 1) {
        uint32_t group = k * 64 + __builtin_ctzll(part);
        std::atomic<uint64_t>& leaf = set.leaf[group];
        // The summary bit first: who marks after this marks it again.
        summary.fetch_and(~(1ull << (group & 63)));
        bool more = true;
        for (uint64_t bits = leaf.load(); bits && more; bits &= bits - 1) {
          leaf.fetch_and(~(bits & -bits));
          more = visit(group * 64 + static_cast<uint32_t>(__builtin_ctzll(bits)));
        }
        if (leaf.load()) summary.fetch_or(1ull << (group & 63));
        if (!more) {
          set.cursor = group;
          return;
        }
      }
    }
  }
  set.cursor += 7;
}

}  // namespace godwit::shared
