#include "tuplespace/streams/visit.hh"

#include <algorithm>

#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/end_lock.hh"
#include "tuplespace/shared/members.hh"
#include "tuplespace/streams/streams.hh"

namespace godwit {

using shared::End;
using shared::Socket;

namespace {

// Whose sleepers and watchers are the node's: it plays the end, for a bridge or for a pod that runs elsewhere.
bool is_the_nodes(const shared::Segment& segment, const End& end) {
  return std::any_of(std::begin(end.watches), std::end(end.watches), [&](const auto& watch) {
    shared::Watch w = watch.load();
    return w && shared::look_at(segment.chunks()[shared::watch_set(w) / shared::kChunk]).pod == kNodePod;
  });
}

// The area of the pod whose threads use the end; null: none of this host's, or one that is being moved.
shared::Area* area_of(const shared::Segment& segment, const End& end) {
  uint32_t member = shared::find_pod(segment, end.pod);
  if (!member || segment.header().members[member].moving.load() || is_the_nodes(segment, end)) return nullptr;
  return segment.area_of(member);
}

// What a move has rebuilt has nameless placeholders, at which nobody else can ring.
bool is_rebuilt(const Socket& socket) { return socket.ends[0].epoch > 1 || socket.ends[1].epoch > 1; }

// A mediator that has one of the ends can ring the other itself; else both are programs'.
bool can_ring(const shared::Segment& segment, const Socket& socket, uint64_t mediator) {
  for (const End& end : socket.ends)
    if (mediator && end.pod == mediator) return true;
  return !is_rebuilt(socket) && area_of(segment, socket.ends[0]) && area_of(segment, socket.ends[1]);
}

// Where the end's lock is to be had; null: that is no end to visit. Within a Still, as all below.
shared::Area* area_for(const shared::Segment& segment, const Socket* socket, const Visit& visit) {
  return socket && can_ring(segment, *socket, visit.mediator) ? area_of(segment, socket->ends[visit.side]) : nullptr;
}

// What to wait for when an end's lock is taken.
struct Busy {
  futex_waitv words[2];
  int count = 0;
  void wait() {
    if (count > 0) shared::wait_any(words, static_cast<uint32_t>(count), shared::kBackstop);
  }
};

// An end's lock, held as a thread of the end's pod holds it: by a slot of the pod's area.
class Guest {
 public:
  Guest(const shared::Segment& segment, shared::Area* area, Socket& socket, std::atomic<uint32_t>& lock, Busy& busy)
      : lock_(lock) {
    self_.segment = segment;
    if (shared::claim_slot(self_, area) != 0) return;
    note(socket.offset);
    busy.count = shared::try_end_lock(self_, lock_, busy.words);
    has_lock_ = busy.count < 0;
  }
  ~Guest() {
    if (!self_.slot) return;
    if (has_lock_) shared::end_unlock(self_, lock_);
    note(0);
    shared::release_slot(self_);
  }
  Guest(const Guest&) = delete;
  bool has_lock() const { return has_lock_; }

 private:
  // Who reaps the slot frees the locks that it has there.
  void note(shared::Offset socket) {
    shared::compiler_barrier();
    self_.slot->guest_at = socket;
    shared::compiler_barrier();
  }
  shared::Thread self_;
  std::atomic<uint32_t>& lock_;
  bool has_lock_ = false;
};

}  // namespace

// A run is freed under the allocator's lock, a pod's area after its member is taken out under the directory's.
Still::Still(shared::Thread& self) : self_(self) {
  shared::lock(self_, shared::kDirectory);
  shared::lock(self_, shared::kAllocator);
}

Still::~Still() {
  shared::unlock(self_, shared::kAllocator);
  shared::unlock(self_, shared::kDirectory);
}

Socket* Still::find(uint64_t connection) const {
  constexpr uint32_t kEnded = shared::kClosed | shared::kGone;
  Socket* found = nullptr;
  shared::for_each_run(self_.segment, [&](shared::Offset offset, const shared::Chunk& chunk) {
    if (chunk.kind != shared::RunKind::kSocket) return;
    Socket& socket = *self_.segment.at<Socket>(offset);
    if (socket.id != connection || socket.state.load() != shared::SocketState::kConnected) return;
    if (!(socket.ends[0].flags.load() & kEnded) || !(socket.ends[1].flags.load() & kEnded)) found = &socket;
  });
  return found;
}

bool can_visit(shared::Thread& self, const Visit& visit) {
  Still still(self);
  return area_for(self.segment, still.find(visit.connection), visit);
}

bool visit_end(shared::Thread& self, const Visit& visit, std::atomic<uint32_t> End::*lock,
               const std::function<void(Socket&)>& f) {
  for (;;) {
    Busy busy;
    {
      Still still(self);
      Socket* socket = still.find(visit.connection);
      shared::Area* area = area_for(self.segment, socket, visit);
      if (!area) return false;
      Guest guest(self.segment, area, *socket, socket->ends[visit.side].*lock, busy);
      if (guest.has_lock()) return f(*socket), true;
    }
    busy.wait();
  }
}

}  // namespace godwit
