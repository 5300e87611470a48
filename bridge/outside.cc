#include "bridge/outside.hh"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

namespace godwit {

using shared::kClosed;
using shared::kGone;
using shared::kReset;
using shared::kRing;
using shared::Ring;

namespace {

// States of tcp_info in which the peer's FIN has come (net/tcp_states.h).
constexpr uint8_t kCloseWait = 8, kLastAck = 9, kClosing = 11;

void abort_with_reset(int fd) {
  linger now{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

}  // namespace

Outside::Outside(Streams& streams, shared::Socket& socket, uint32_t side, UniqueFd real,
                 std::function<void()> on_end)
    : streams_(streams), socket_(socket), side_(side), real_(std::move(real)), on_end_(std::move(on_end)) {
  int one = 1;
  setsockopt(real_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

Outside::~Outside() {
  forget_real();
  streams_.detach(socket_, side_);
}

Result<void> Outside::start(UniqueFd placeholder) {
  // Bytes from outside are received where they will lie, so all of the ring must have its pages.
  if (shared::reserve(ring_data(socket_, side_), kRing) != 0)
    return make_error(std::errc::no_buffer_space, "hold an outside connection; make room in /dev/shm");
  from_outside().reserved = kRing;
  if (auto attached = streams_.attach(socket_, side_, std::move(placeholder), *this); !attached) return attached;
  settle();
  wanted_ = EPOLLIN | EPOLLRDHUP;
  registered_ = true;
  return streams_.loop().add_fd(real_.get(), wanted_, [this](uint32_t events) { on_real(events); });
}

void Outside::on_real(uint32_t events) {
  // HUP cannot be masked: once there is nothing more to read, the socket is looked at only when we write.
  if (input_over_ && (events & (EPOLLHUP | EPOLLERR))) forget_real();
  if (!input_over_ && (events & ~static_cast<uint32_t>(EPOLLOUT))) return receive();
  look();
}

void Outside::forget_real() {
  if (registered_) streams_.loop().remove_fd(real_.get());
  registered_ = false;
}

// After a death between a system call and the store that follows it: what the kernel has done counts.
void Outside::settle() {
  tcp_info info{};
  socklen_t length = sizeof info;
  int unread = 0, unsent = 0;
  if (getsockopt(real_.get(), IPPROTO_TCP, TCP_INFO, &info, &length) != 0 || ioctl(real_.get(), SIOCINQ, &unread) != 0 ||
      ioctl(real_.get(), SIOCOUTQ, &unsent) != 0)
    return;
  bool finished = info.tcpi_state == kCloseWait || info.tcpi_state == kLastAck || info.tcpi_state == kClosing;
  uint64_t read = info.tcpi_bytes_received - static_cast<uint64_t>(unread) - (finished ? 1 : 0);
  uint64_t tail = from_outside().tail.load();
  if (read > tail && read - tail <= writable(from_outside())) from_outside().tail.store(read);
  // The active opener's SYN counts as one acknowledged byte.
  uint64_t sent = info.tcpi_bytes_acked + static_cast<uint64_t>(unsent) - (side_ == 1 && info.tcpi_bytes_acked ? 1 : 0);
  uint64_t head = to_outside().head.load();
  if (sent > head && sent <= to_outside().tail.load()) to_outside().head.store(sent);
}

void Outside::want(uint32_t events) {
  if (events == wanted_) return;
  wanted_ = events;
  if (registered_) (void)streams_.loop().set_events(real_.get(), events);
}

void Outside::gone() {
  shared::note_gone(socket_, side_);
  look();
}

// Something may have happened at our end: bytes for outside, room for more from outside, or the program's end.
void Outside::look() {
  if (!send_out()) return;
  if (!input_over_ && !(wanted_ & EPOLLIN) && writable(from_outside()) >= shared::kWritable)
    want(wanted_ | EPOLLIN | EPOLLRDHUP);
}

// returns false when this is no more.
bool Outside::send_out() {
  Ring& ring = to_outside();
  while (uint64_t n = readable(ring)) {
    uint64_t head = ring.head.load(std::memory_order_relaxed);
    shared::RingSpan span = ring_span(socket_, 1 - side_, head, n);
    msghdr message{};
    message.msg_iov = span.parts;
    message.msg_iovlen = static_cast<size_t>(span.count);
    ssize_t sent = sendmsg(real_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) {
      want(wanted_ | EPOLLOUT);
      return true;
    }
    if (sent < 0) {
      outside_ended(errno);
      return false;
    }
    ring.head.store(head + static_cast<uint64_t>(sent), std::memory_order_release);
    shared::notify_room(streams_.self(), socket_, side_, streams_.placeholder(socket_, side_));
  }
  want(wanted_ & ~static_cast<uint32_t>(EPOLLOUT));
  uint32_t program = socket_.ends[1 - side_].flags.load();
  if (socket_.ends[side_].flags.load() & kReset) {
    abort_with_reset(real_.get());
    end();
    return false;
  }
  if (program & (kClosed | kGone)) {
    end();
    return false;
  }
  if (ring.finished.load() && !output_over_) {
    output_over_ = true;
    shutdown(real_.get(), SHUT_WR);
  }
  return true;
}

void Outside::receive() {
  Ring& ring = from_outside();
  for (int turn = 0; turn < 4; ++turn) {
    uint64_t room = writable(ring);
    if (room == 0 || input_over_) {
      ring.writer_waits.store(1);
      shared::full_fence();
      if (input_over_ || writable(ring) == 0) return want(wanted_ & ~static_cast<uint32_t>(EPOLLIN | EPOLLRDHUP));
      continue;
    }
    uint64_t tail = ring.tail.load(std::memory_order_relaxed);
    shared::RingSpan span = ring_span(socket_, side_, tail, room);
    msghdr message{};
    message.msg_iov = span.parts;
    message.msg_iovlen = static_cast<size_t>(span.count);
    ssize_t n = recvmsg(real_.get(), &message, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return outside_ended(n == 0 ? 0 : errno);
    ring.tail.store(tail + static_cast<uint64_t>(n), std::memory_order_release);
    streams_.ring(socket_, side_, EPOLLIN);
    if (static_cast<uint64_t>(n) < room) return;
  }
}

void Outside::outside_ended(int error) {
  input_over_ = true;
  if (error) {
    socket_.ends[1 - side_].flags.fetch_or(kReset);
    socket_.ends[1 - side_].error.store(error);
  }
  from_outside().finished.store(1);
  streams_.ring(socket_, side_, ~0u);
  if (error) return end();
  want(wanted_ & ~static_cast<uint32_t>(EPOLLIN | EPOLLRDHUP));
}

void Outside::end() {
  bool last = !(socket_.ends[side_].flags.fetch_or(kClosed) & kClosed) &&
              (socket_.ends[1 - side_].flags.load() & (kClosed | kGone));
  streams_.ring(socket_, side_, ~0u);
  Streams& streams = streams_;
  shared::Socket& socket = socket_;
  auto on_end = std::move(on_end_);
  on_end();  // destroys this
  if (last) streams.free(socket);
}

}  // namespace godwit
