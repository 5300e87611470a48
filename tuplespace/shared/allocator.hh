// Runs of chunks, handed out and taken back so that a kill at any instruction neither leaks nor doubles one.
//
// Between the moment a run leaves the allocator and the moment the taker has published it (or the other
// way round), it stands in the taker's slot as `intent`; the reaper of a dead slot gives it back.
#pragma once
#include "tuplespace/shared/thread.hh"

namespace godwit::shared {

/// Takes a run of at least `length` bytes. Its pages hold old bytes or none: reserve() what is used.
/// returns 0 and the offset, which is now this thread's intent; -ENOSPC: the segment is full.
int allocate(Thread& self, uint64_t length, RunKind kind, uint64_t pod, Offset* out);

/// The run is published: it is no longer this thread's alone.
void publish(Thread& self);

/// Declares that this thread is about to free the run, which nobody else can reach any more.
void intend(Thread& self, Offset run);

/// Gives the intended run back.
void free_intent(Thread& self);

/// The same for a dead slot; kReaper held.
void free_intent(Thread& self, Slot& slot);

/// What the table says of a run at this moment, read without its lock.
inline Chunk look_at(const Chunk& chunk) {
  Chunk seen{};
  __atomic_load(&chunk.state, &seen.state, __ATOMIC_ACQUIRE);
  __atomic_load(&chunk.length, &seen.length, __ATOMIC_ACQUIRE);
  __atomic_load(&chunk.kind, &seen.kind, __ATOMIC_ACQUIRE);
  __atomic_load(&chunk.pod, &seen.pod, __ATOMIC_ACQUIRE);
  return seen;
}

/// Calls f(offset, chunk) for every used run. A snapshot only: runs come and go meanwhile.
template <class F>
void for_each_run(const Segment& segment, F f) {
  Header& header = segment.header();
  uint32_t end = __atomic_load_n(&header.next_chunk, __ATOMIC_ACQUIRE);
  for (uint32_t c = header.first_chunk; c < end;) {
    Chunk chunk = look_at(segment.chunks()[c]);
    if (chunk.length == 0) return;
    if (chunk.state == RunState::kUsed) f(c * kChunk, chunk);
    c += chunk.length;
  }
}

}  // namespace godwit::shared
