// A thread at work on spaces: its standing in the segment, its bench, and how it follows references.
#pragma once
#include <algorithm>
#include <memory>

#include "tuplespace/result.hh"
#include "tuplespace/shared/thread.hh"
#include "tuplespace/store/layout.hh"

namespace godwit::store {

using shared::kChunk;
inline constexpr uint64_t kChunkUnits = kChunk / kUnit;

/// Thrown where metadata is found to be damaged, and caught by the operation, which closes the space.
struct Damaged {
  Root* of = nullptr;  // the space, where it is not the operation's own
};

class Desk {
 public:
  /// The calling thread's, joining the segment at its first use. It lives as long as the thread; a child of fork gets
  /// one of its own. errors: too_many_files_open_in_system (all slots are taken), no_space_on_device.
  static Result<Desk*> of(const shared::Segment& segment);
  ~Desk();
  Desk(const Desk&) = delete;

  shared::Thread self;
  Bench* bench = nullptr;
  bool showing = false;   // a tuple, to a function that must not use spaces
  bool finishing = false; // what dead threads left half done
  // Of durable spaces (durability.hh).
  Transaction* own = nullptr;   // for operations that are a transaction each; null: not begun yet
  bool waits_for_disk = true;   // operations return when what they say is on disk; else unwritten says how far that is to be
  uint64_t unwritten = 0;       // number of a record

  uint32_t owner() const { return owner_; }
  shared::Header& header() const { return self.segment.header(); }
  shared::Slot& slot() const { return *self.slot; }

  /// Whatever a reference says, it leads to chunks that are in use.
  template <class T>
  T& at(Ref ref) const {
    constexpr uint64_t kUnits = (sizeof(T) + kUnit - 1) / kUnit;
    if (ref - low_ > chunks_in_use() * kChunkUnits - low_ - kUnits) throw Damaged();
    return *self.segment.at<T>(uint64_t{ref} * kUnit);
  }
  Ref ref_of(const void* p) const { return static_cast<Ref>(self.segment.offset_of(p) / kUnit); }
  /// What the table says of the chunk that a reference, followed before, leads to.
  const shared::Chunk& chunk_of(Ref ref) const { return self.segment.chunks()[ref / kChunkUnits]; }
  /// No list is longer.
  uint64_t most_records() const { return chunks_in_use() * (kChunk / sizeof(Node)); }

  /// Damaged: more changes than a transaction has, so that it goes on where it should have ended.
  template <class T>
  void set(T* p, T v) {
    if (!shared::set(self, p, v)) [[unlikely]] throw Damaged();
  }
  void commit() { shared::commit(self); }

  /// The bench of another thread of this host; null if it has none, or has left.
  Bench* bench_of(uint32_t owner) const;
  /// Of its process, as that sees itself.
  uint32_t pid_of(uint32_t owner) const { return slot_of(owner).pid; }
  bool is_dead(uint32_t owner) const;

  void lock(Lock& lock);
  void unlock(Lock& lock);
  bool holds(const Lock& lock) const { return (lock.word.load(std::memory_order_relaxed) & ~shared::kLockWaiters) == owner(); }

 private:
  Desk() = default;
  shared::Slot& slot_of(uint32_t owner) const;
  static Result<Desk*> find(const shared::Segment& segment);
  int join(const shared::Segment& segment);
  uint64_t chunks_in_use() const { return __atomic_load_n(&header().next_chunk, __ATOMIC_RELAXED); }
  uint64_t low_ = 0;
  uint32_t owner_ = 0;  // self.owner(), which stays
};

/// Along a list that has `most` members by its own account: who takes more steps goes in a circle.
class Steps {
 public:
  Steps(const Desk& desk, uint64_t most) : left_(std::min(most, desk.most_records())) {}
  void take() {
    if (left_-- == 0) throw Damaged();
  }

 private:
  uint64_t left_;
};

/// Frees the locks of spaces of a dead owner too. Idempotent. A shared::Heir.
void release_dead(shared::Thread& self, uint32_t owner);

inline void Desk::lock(Lock& lock) {
  self.enter();
  uint32_t none = 0;
  if (lock.word.compare_exchange_strong(none, owner(), std::memory_order_acquire)) return;
  self.leave();
  shared::lock(self, lock, release_dead);
}

inline void Desk::unlock(Lock& lock) { shared::unlock(self, lock); }

}  // namespace godwit::store
