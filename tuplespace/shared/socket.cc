#include "tuplespace/shared/socket.hh"

#include <sys/epoll.h>

#include "tuplespace/shared/allocator.hh"

namespace godwit::shared {
namespace {

constexpr uint64_t kReserveStep = 32 << 10;

// The pages of [0, end) of the ring's data exist after this. Once round, it is free.
bool reserve_ring(Socket& socket, uint32_t ring, uint64_t end) {
  Ring& r = socket.rings[ring];
  if (end > kRing) end = kRing;
  while (r.reserved < end) {
    if (reserve(ring_data(socket, ring) + r.reserved, kReserveStep) != 0) return false;
    r.reserved += kReserveStep;
  }
  return true;
}

}  // namespace

void copy_in(Socket& socket, uint32_t ring, uint64_t at, const void* from, uint64_t n) {
  RingSpan span = ring_span(socket, ring, at, n);
  memcpy(span.parts[0].iov_base, from, span.parts[0].iov_len);
  if (span.count > 1)
    memcpy(span.parts[1].iov_base, static_cast<const char*>(from) + span.parts[0].iov_len, span.parts[1].iov_len);
}

void copy_out(Socket& socket, uint32_t ring, uint64_t at, void* to, uint64_t n) {
  RingSpan span = ring_span(socket, ring, at, n);
  memcpy(to, span.parts[0].iov_base, span.parts[0].iov_len);
  if (span.count > 1)
    memcpy(static_cast<char*>(to) + span.parts[0].iov_len, span.parts[1].iov_base, span.parts[1].iov_len);
}

ssize_t put(Socket& socket, uint32_t side, const iovec* iov, int count) {
  Ring& ring = socket.rings[side];
  uint64_t tail = ring.tail.load(std::memory_order_relaxed), room = writable(ring), done = 0;
  for (int i = 0; i < count && room; ++i) {
    uint64_t n = iov[i].iov_len < room ? iov[i].iov_len : room;
    if (n == 0) continue;
    if (ring.reserved < kRing && !reserve_ring(socket, side, tail + done + n)) {
      if (done == 0) return -ENOBUFS;
      break;
    }
    copy_in(socket, side, tail + done, iov[i].iov_base, n);
    done += n;
    room -= n;
  }
  if (done) ring.tail.store(tail + done, std::memory_order_release);
  return static_cast<ssize_t>(done);
}

ssize_t take(Socket& socket, uint32_t side, const iovec* iov, int count, bool peek) {
  Ring& ring = socket.rings[1 - side];
  uint64_t head = ring.head.load(std::memory_order_relaxed), there = readable(ring), done = 0;
  for (int i = 0; i < count && there; ++i) {
    uint64_t n = iov[i].iov_len < there ? iov[i].iov_len : there;
    copy_out(socket, 1 - side, head + done, iov[i].iov_base, n);
    done += n;
    there -= n;
  }
  if (done && !peek) ring.head.store(head + done, std::memory_order_release);
  return static_cast<ssize_t>(done);
}

int allocate_socket(Thread& self, uint32_t family, uint64_t pod, Offset* out) {
  Section section(self);
  if (int e = allocate(self, kSocketLength, RunKind::kSocket, pod, out)) return e;
  Socket& socket = *self.segment.at<Socket>(*out);
  if (int e = reserve(&socket, sizeof(Socket))) {
    free_intent(self);
    return e;
  }
  // A piece that was used before keeps its generation growing, so that late looks at it are noticed, and its
  // rings keep their pages.
  uint32_t generation = socket.generation.load() + 1;
  uint64_t reserved[2] = {socket.rings[0].reserved, socket.rings[1].reserved};
  memset(static_cast<void*>(&socket), 0, sizeof socket);
  socket.generation.store(generation);
  socket.family = family;
  socket.offset = *out;
  for (uint32_t i = 0; i < 2; ++i) {
    socket.rings[i].reserved = reserved[i];
    socket.ends[i].linger = -1;
  }
  socket.ends[0].pod = pod;
  socket.state.store(SocketState::kFresh, std::memory_order_release);
  return 0;
}

uint32_t readiness(Socket& socket, uint32_t side) {
  const Ring& in = socket.rings[1 - side];
  Ring& out = socket.rings[side];
  uint32_t mine = socket.ends[side].flags.load();
  bool peer_gone = socket.ends[1 - side].flags.load() & (kClosed | kGone);
  bool reset = mine & kReset;
  bool in_done = in.finished.load() || in.refused.load() || peer_gone || reset;
  bool out_done = out.finished.load() || reset;
  uint32_t events = 0;
  if (socket.connecting.load()) return 0;
  if (readable(in) || in_done) events |= EPOLLIN | EPOLLRDNORM;
  if (in_done) events |= EPOLLRDHUP;
  if (writable(out) < kWritable && !out_done) {
    out.writer_waits.store(1);
    full_fence();
  }
  if (writable(out) >= kWritable || out_done || peer_gone) events |= EPOLLOUT | EPOLLWRNORM;
  if (in_done && out_done) events |= EPOLLHUP;
  if (reset || socket.ends[side].error.load()) events |= EPOLLERR;
  return events;
}

bool close_end(Socket& socket, uint32_t side, bool abort) {
  End& mine = socket.ends[side];
  End& other = socket.ends[1 - side];
  bool unread = readable(socket.rings[1 - side]) != 0;
  // Where both directions have ended already there is nothing left to reset.
  bool over = socket.rings[0].finished.load() && socket.rings[1].finished.load();
  if ((abort || unread) && !over) {
    other.flags.fetch_or(kReset);
  } else {
    socket.rings[side].finished.store(1);
  }
  uint32_t before = mine.flags.fetch_or(kClosed);
  if ((before & kClosed) || !(other.flags.load() & (kClosed | kGone))) return false;
  return socket.state.exchange(SocketState::kFree) != SocketState::kFree;  // of two that close at once, one
}

bool note_gone(Socket& socket, uint32_t side) {
  End& other = socket.ends[1 - side];
  uint32_t before = other.flags.fetch_or(kGone);
  if (before & kGone) return false;
  if (!(before & kClosed)) {
    // Killed, or closed where nobody could tell: what the kernel would have sent.
    // A reset that follows a FIN is told otherwise than one that comes without: so it is one or the other.
    if (readable(socket.rings[side]))
      socket.ends[side].flags.fetch_or(kReset);
    else
      socket.rings[1 - side].finished.store(1);
  }
  return true;
}

}  // namespace godwit::shared
