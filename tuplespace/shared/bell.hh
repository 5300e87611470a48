// Sleeping at an end and ringing it: who publishes something wakes the other side if, and only if, it sleeps.
//
// Rule: only the holder of `sleeper` may read bytes from the placeholder. Further blocking sleepers wait on the
// futex word `generation`; further pollers use a temporary edge-triggered epoll set; sets have the placeholder as
// IN|OUT|RDHUP|ET, which nobody's draining can rob.
// Sleeper: arm, fence, look again, sleep. Ringer: publish, fence, look whether armed, ring. (A token per sleeper
// would lose wake-ups: a fast re-sleeper eats another's byte.)
#pragma once
#include <sys/epoll.h>
#include <sys/socket.h>

#include "tuplespace/shared/futex.hh"
#include "tuplespace/shared/set.hh"
#include "tuplespace/shared/socket.hh"

namespace godwit::shared {

/// Tells end `to` that `events` (EPOLLIN, EPOLLOUT, ...; ~0u: whatever it waits for) may be so now.
/// placeholder: the caller's own end of the pair. One system call if somebody sleeps there, else none.
void notify(Thread& self, Socket& socket, uint32_t to, uint32_t events, int placeholder);

/// After take(): room was made in ring 1 - side; tells the writer if it waits for that.
inline void notify_room(Thread& self, Socket& socket, uint32_t side, int placeholder) {
  Ring& ring = socket.rings[1 - side];
  full_fence();
  if (ring.writer_waits.load(std::memory_order_relaxed) && writable(ring) >= kWritable &&
      ring.writer_waits.exchange(0))
    notify(self, socket, 1 - side, EPOLLOUT, placeholder);
}

// --- the slot of an end ----------------------------------------------------------------------------

/// Tries to become the one sleeper that reads bells; a dead holder of the same pod is displaced.
/// *mine: the word to hand to rearm() and to compare with.
inline bool take_slot(Thread& self, End& end, uint32_t* turn, uint64_t* mine) {
  uint64_t word = end.sleeper.load();
  if (word) {
    uint32_t holder = static_cast<uint32_t>(word) >> 1;
    if (!self.area->slots[holder].dead()) return false;
  }
  *mine = static_cast<uint64_t>(++*turn) << 32 | self.slot_index << 1 | 1;
  return end.sleeper.compare_exchange_strong(word, *mine);
}

/// Armed again, with a new turn, before the next look.
inline void rearm_slot(Thread& self, End& end, uint32_t* turn, uint64_t* mine) {
  *mine = static_cast<uint64_t>(++*turn) << 32 | self.slot_index << 1 | 1;
  end.sleeper.store(*mine);
  full_fence();
}

/// Gives the slot up and wakes those that waited for it.
inline void leave_slot(End& end) {
  end.sleeper.store(0);
  full_fence();
  if (end.futex_sleepers.load()) {
    end.generation.fetch_add(1);
    wake_all(end.generation);
  }
}

// --- watchers of the space "net" -------------------------------------------------------------------

// Who waits for tuples reads net_generation, arms with a fresh ticket what could bring one (the end that reads a ring,
// for its bytes; the header, for connections), fences, looks, and sleeps on net_generation. Ringer: publish, fence,
// look whether armed, ring, disarm that very ticket. So arming is for one ring: a flow costs a system call for each
// look of a watcher and none when nobody looks, and what a killed watcher left armed costs one ring and is gone. Ringing
// is one system call, so that a kill leaves all of it or nothing; nothing: the dead slot's reaper rings.

/// A number that arms; never 0.
inline uint32_t watch_ticket(const Segment& segment) {
  uint32_t ticket;
  while ((ticket = segment.header().net_tickets.fetch_add(1) + 1) == 0) {
  }
  return ticket;
}

/// Wakes all watchers. Section.
void wake_watchers(const Segment& segment);

/// Wakes them and disarms `armed`, which lies in the whole mapping or in a piece.
void ring_watchers(Thread& self, std::atomic<uint32_t>& armed);

/// After a connection has come to wait for its accept.
inline void notify_connection(Thread& self) {
  full_fence();
  Section section(self);
  std::atomic<uint32_t>& armed = self.segment.header().net_armed;
  if (armed.load(std::memory_order_relaxed)) ring_watchers(self, armed);
}

// --- sets -------------------------------------------------------------------------------------------

/// Lets set `w` watch the end. returns false if kWatches sets do already.
bool add_watch(End& end, Watch w);
void remove_watch(End& end, Watch w);

}  // namespace godwit::shared
