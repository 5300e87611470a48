// What must stay true: data that arrived before an end of stream or an error is read first; whether the
// stream has ended is looked at before the ring, so that the writer's last bytes are not missed.
#include "wrapper/stream.hh"

#include <poll.h>
#include <sys/un.h>

#include "tuplespace/shared/end_lock.hh"
#include "wrapper/sets.hh"
#include "wrapper/sleep.hh"

namespace godwit::wrapper {
namespace {

using shared::End;
using shared::Ring;
using shared::Socket;
using shared::Thread;

constexpr uint64_t kProbeCycles = 2'000'000;  // about a millisecond

bool other_gone(const Socket& socket, uint32_t side) {
  return socket.ends[1 - side].flags.load() & (shared::kClosed | shared::kGone);
}
bool input_done(const Socket& socket, uint32_t side) {
  const Ring& in = socket.rings[1 - side];
  return in.finished.load() || in.refused.load() || other_gone(socket, side) ||
         (socket.ends[side].flags.load() & shared::kReset);
}
bool reset_untold(const End& end) {
  return (end.flags.load() & (shared::kReset | kResetTold)) == shared::kReset;
}
// The error that a call reports and thereby clears; 0: none. After the other side's FIN a reset means EPIPE.
int pending_error(Socket& socket, uint32_t side) {
  End& end = socket.ends[side];
  int error = end.error.load() ? end.error.exchange(0) : 0;
  if (error) return error;
  if (reset_untold(end) && !(end.flags.fetch_or(kResetTold) & kResetTold))
    return socket.rings[1 - side].finished.load() ? EPIPE : ECONNRESET;
  return 0;
}
bool has_error(const End& end) { return end.error.load() || reset_untold(end); }

uint64_t total_length(const iovec* iov, int count) {
  uint64_t n = 0;
  for (int i = 0; i < count; ++i) n += iov[i].iov_len;
  return n;
}

// A rest of an iovec array, for transfers in several steps.
class Rest {
 public:
  Rest(const iovec* iov, int count) : count_(count < kMost ? count : kMost) {
    for (int i = 0; i < count_; ++i) parts_[i] = iov[i];
  }
  const iovec* data() const { return parts_ + first_; }
  int count() const { return count_ - first_; }
  void advance(uint64_t n) {
    while (n) {
      iovec& part = parts_[first_];
      uint64_t k = n < part.iov_len ? n : part.iov_len;
      part.iov_base = static_cast<char*>(part.iov_base) + k;
      part.iov_len -= k;
      n -= k;
      if (!part.iov_len) ++first_;
    }
  }

 private:
  static constexpr int kMost = 64;  // a longer array is served by a partial transfer
  iovec parts_[kMost];
  int count_, first_ = 0;
};

uint64_t deadline_of(uint64_t timeout) { return timeout ? shared::monotonic_ns() + timeout : 0; }

long take_some(Thread& self, Handle& handle, const iovec* iov, int count, bool peek) {
  End& end = handle.end();
  shared::end_lock(self, end.read_lock);
  long n = shared::take(handle.socket(), handle.side(), iov, count, peek);
  shared::end_unlock(self, end.read_lock);
  if (n > 0 && !peek) shared::notify_room(self, handle.socket(), handle.side(), handle.fd());
  return n;
}

long put_some(Thread& self, Handle& handle, const iovec* iov, int count) {
  End& end = handle.end();
  shared::end_lock(self, end.write_lock);
  long n = shared::put(handle.socket(), handle.side(), iov, count);
  shared::end_unlock(self, end.write_lock);
  if (n > 0) shared::notify(self, handle.socket(), 1 - handle.side(), EPOLLIN, handle.fd());
  return n;
}

// MSG_TRUNC on a stream discards instead of copying.
long discard(Thread& self, Handle& handle, uint64_t n) {
  char nowhere[4096];
  uint64_t done = 0;
  while (done < n) {
    iovec part{nowhere, n - done < sizeof nowhere ? n - done : sizeof nowhere};
    long k = take_some(self, handle, &part, 1, false);
    if (k <= 0) break;
    done += static_cast<uint64_t>(k);
  }
  return static_cast<long>(done);
}

// One wait for input. returns 0 to look again, or what the call returns.
long wait_readable(Thread& self, Handle& handle, bool nonblocking, uint64_t deadline, uint32_t handled, uint64_t more_than) {
  if (nonblocking) {
    probe_peer(handle);
    return input_done(handle.socket(), handle.side()) ? 0 : -EAGAIN;
  }
  Sleep sleep(handle, self, deadline, handled);
  Woke woke = sleep.until([&] {
    return shared::readable(handle.incoming()) > more_than || input_done(handle.socket(), handle.side()) ||
           handle.end().error.load();
  });
  return woke == Woke::kReady ? 0 : woke == Woke::kTimedOut ? -EAGAIN : -EINTR;
}

bool writer_may_go(Handle& handle) {
  Ring& ring = handle.outgoing();
  if (shared::writable(ring) >= shared::kWritable || ring.finished.load() || has_error(handle.end()) ||
      other_gone(handle.socket(), handle.side()) || (handle.end().flags.load() & shared::kReset))
    return true;
  ring.writer_waits.store(1);
  shared::full_fence();
  return shared::writable(ring) >= shared::kWritable;
}

long wait_writable(Thread& self, Handle& handle, bool nonblocking, uint64_t deadline, uint32_t handled) {
  if (nonblocking) {
    probe_peer(handle);
    if (other_gone(handle.socket(), handle.side())) return 0;
    handle.outgoing().writer_waits.store(1);
    shared::full_fence();
    return shared::writable(handle.outgoing()) > 0 ? 0 : -EAGAIN;
  }
  Sleep sleep(handle, self, deadline, handled);
  Woke woke = sleep.until([&] { return writer_may_go(handle); });
  return woke == Woke::kReady ? 0 : woke == Woke::kTimedOut ? -EAGAIN : -EINTR;
}

long broken_pipe(int flags) {
  if (!(flags & MSG_NOSIGNAL)) syscall(SYS_tgkill, getpid(), gettid(), SIGPIPE);
  return -EPIPE;
}

// 0: bytes may be put; 1: they go nowhere, the other end is closed; else a negative errno.
long check_writable(Handle& handle, int flags) {
  End& end = handle.end();
  if (has_error(end)) {
    int error = pending_error(handle.socket(), handle.side());
    if (error == EPIPE) return broken_pipe(flags);
    if (error) return -error;
  }
  if (handle.outgoing().finished.load() || (end.flags.load() & shared::kReset)) return broken_pipe(flags);
  if (other_gone(handle.socket(), handle.side())) return 1;
  // Who has shut both directions down answers data with a reset, of itself too; what comes after does not change its error.
  if (!handle.incoming().finished.load() || !handle.outgoing().refused.load()) return 0;
  End& other = handle.socket().ends[1 - handle.side()];
  other.error.store(ECONNRESET);
  other.flags.fetch_or(shared::kReset | kResetTold);
  return 1;
}

// TCP accepts what is sent to a closed peer, is answered by RST, and fails from the next call on.
long swallow(Thread& self, Handle& handle, uint64_t n) {
  handle.end().error.store(handle.incoming().finished.load() ? EPIPE : ECONNRESET);
  handle.end().flags.fetch_or(shared::kReset | kResetTold);
  shared::notify(self, handle.socket(), 1 - handle.side(), ~0u, handle.fd());
  poke_own_watchers(handle);
  return static_cast<long>(n);
}

long not_connected(Handle& handle, bool sending, int flags) {
  End& end = handle.end();
  int error = end.error.load() ? end.error.exchange(0) : 0;
  if (error) return -error;
  if (sending && handle.socket().state.load() == shared::SocketState::kFresh) return broken_pipe(flags);
  return sending ? broken_pipe(flags) : -ENOTCONN;
}

// A connection to the outside that is not made yet. returns 0 when it is, or what the call returns.
long wait_for_connection(Handle& handle, bool nonblocking) {
  if (!handle.socket().connecting.load(std::memory_order_relaxed)) return 0;
  if (nonblocking) return -EAGAIN;
  long waited = wait_for_bridge(handle);
  return waited == -EINPROGRESS ? -EAGAIN : waited;
}

}  // namespace

long wait_for_bridge(Handle& handle) {
  Thread* t = self();
  if (!t) return -ENOBUFS;
  Socket& socket = handle.socket();
  Sleep sleep(handle, *t, deadline_of(handle.end().send_timeout), thread_state.handled);
  while (socket.connecting.load()) {
    Woke woke = sleep.until([&] { return !socket.connecting.load() || other_gone(socket, handle.side()); });
    if (woke == Woke::kInterrupted) return -EINTR;
    if (woke == Woke::kTimedOut) return -EINPROGRESS;
    if (!other_gone(socket, handle.side()) || !socket.connecting.load()) continue;
    socket.connecting.store(0);  // the node died before it answered
    handle.end().error.store(ECONNREFUSED);
  }
  return 0;
}

// As a TCP socket in state CLOSE: reset, or both directions have ended.
bool is_over(Handle& handle) {
  if (handle.end().flags.load() & shared::kReset) return true;
  return handle.outgoing().finished.load() &&
         (handle.incoming().finished.load() || other_gone(handle.socket(), handle.side()));
}

bool peer_gone(Socket& socket, uint32_t side) {
  bool closed = other_gone(socket, side), finished = socket.rings[1 - side].finished.load();
  shared::note_gone(socket, side);
  // Who closed by its own word has rung; who was killed after a FIN, and owes nothing, has no news.
  return !closed && (!finished || (socket.ends[side].flags.load() & shared::kReset));
}

void probe_peer(Handle& handle, bool now) {
  Socket& socket = handle.socket();
  if (other_gone(socket, handle.side())) return;
  uint64_t clock = cycles();
  if (!now && clock - handle.state().last_probe < kProbeCycles) return;
  handle.state().last_probe = clock;
  pollfd p{handle.fd(), 0, 0};
  timespec none{};
  if (syscall(SYS_ppoll, &p, 1, &none, nullptr, 8) == 1 && (p.revents & (POLLHUP | POLLERR)))
    shared::note_gone(socket, handle.side());
}

uint32_t current_events(Socket& socket, uint32_t side) {
  if (socket.state.load(std::memory_order_acquire) != shared::SocketState::kConnected) {
    uint32_t events = EPOLLOUT | EPOLLWRNORM | EPOLLHUP;
    return socket.ends[side].error.load() ? events | EPOLLERR | EPOLLIN | EPOLLRDNORM | EPOLLRDHUP : events;
  }
  uint32_t events = shared::readiness(socket, side);
  if (!has_error(socket.ends[side])) events &= ~static_cast<uint32_t>(EPOLLERR);
  return events;
}

int take_error(Socket& socket, uint32_t side) { return pending_error(socket, side); }

long receive(Handle& handle, const iovec* iov, int count, int flags) {
  if (!handle.connected()) return not_connected(handle, false, flags);
  if (flags & MSG_OOB) return -EINVAL;
  Thread* t = self();
  if (!t) return -ENOBUFS;
  uint32_t handled = thread_state.handled;
  bool peek = flags & MSG_PEEK, nonblocking = (flags & MSG_DONTWAIT) || handle.nonblocking();
  if (long e = wait_for_connection(handle, nonblocking)) return e;
  uint64_t wanted = total_length(iov, count), done = 0, deadline = deadline_of(handle.end().receive_timeout);
  uint64_t at_least = (flags & MSG_WAITALL) ? wanted : 1;
  if (wanted == 0) return 0;
  Rest rest(iov, count);
  for (;;) {
    bool ended = input_done(handle.socket(), handle.side());
    uint64_t seen = peek ? shared::readable(handle.incoming()) : 0;
    long n = (flags & MSG_TRUNC) && !peek ? discard(*t, handle, wanted - done)
                                          : take_some(*t, handle, rest.data(), rest.count(), peek);
    if (n > 0) {
      if (!peek) {
        done += static_cast<uint64_t>(n);
        if (!(flags & MSG_TRUNC)) rest.advance(static_cast<uint64_t>(n));
      } else {
        done = static_cast<uint64_t>(n);
      }
    }
    if (done >= at_least || rest.count() == 0) return static_cast<long>(done);
    if (ended) {
      // Once a FIN has come an error is left to whoever writes.
      int error = done || handle.incoming().finished.load() ? 0 : pending_error(handle.socket(), handle.side());
      return error ? -error : static_cast<long>(done);
    }
    if (int error = done ? 0 : handle.end().error.exchange(0)) return -error;
    long waited = wait_readable(*t, handle, nonblocking, deadline, handled, peek && done ? seen : 0);
    if (waited < 0) return done ? static_cast<long>(done) : waited;
  }
}

long transmit(Handle& handle, const iovec* iov, int count, int flags) {
  if (!handle.connected()) return not_connected(handle, true, flags);
  Thread* t = self();
  if (!t) return -ENOBUFS;
  uint32_t handled = thread_state.handled;
  bool nonblocking = (flags & MSG_DONTWAIT) || handle.nonblocking();
  if (long e = wait_for_connection(handle, nonblocking)) return e;
  uint64_t wanted = total_length(iov, count), done = 0, deadline = deadline_of(handle.end().send_timeout);
  Rest rest(iov, count);
  for (;;) {
    long state = check_writable(handle, flags);
    if (state < 0) return done ? static_cast<long>(done) : state;
    if (wanted == 0) return 0;
    if (state == 1) return swallow(*t, handle, wanted);
    long n = put_some(*t, handle, rest.data(), rest.count());
    if (n < 0) return done ? static_cast<long>(done) : n;
    if (n > 0) {
      done += static_cast<uint64_t>(n);
      rest.advance(static_cast<uint64_t>(n));
      if (done == wanted || rest.count() == 0) return static_cast<long>(done);
      if (nonblocking && shared::writable(handle.outgoing()) > 0) continue;
    }
    long waited = wait_writable(*t, handle, nonblocking, deadline, handled);
    if (waited < 0) return done ? static_cast<long>(done) : waited;
  }
}

void poke_own_watchers(Handle& handle) {
  Thread* t = self();
  End& end = handle.end();
  if (!t || !end.watched.load()) return;
  for (std::atomic<shared::Watch>& slot : end.watches) {
    shared::Watch w = slot.load();
    if (!w) continue;
    bool asleep;
    {
      shared::Section section(*t);
      shared::Set& set = *t->segment.at<shared::Set>(shared::watch_set(w));
      shared::mark(set, shared::watch_index(w));
      asleep = set.armed.load() & 1;
    }
    // Changing a registration makes a new edge, which ends the sleep.
    int set_fd = asleep ? descriptor_of_set(shared::watch_set(w)) : -1;
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.u64 = set_tag() | shared::watch_index(w);
    if (set_fd >= 0) libc().epoll_ctl(set_fd, EPOLL_CTL_MOD, static_cast<int>(shared::watch_index(w)), &event);
  }
}

long shut(Handle& handle, int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return -EINVAL;
  if (!handle.connected()) return -ENOTCONN;
  probe_peer(handle, true);
  if (is_over(handle)) {
    poke_own_watchers(handle);  // as the kernel does
    return -ENOTCONN;
  }
  Thread* t = self();
  if (!t) return -ENOBUFS;
  Socket& socket = handle.socket();
  if (how != SHUT_RD) {
    if (!handle.outgoing().finished.exchange(1)) shared::notify(*t, socket, 1 - handle.side(), ~0u, handle.fd());
  }
  if (how != SHUT_WR) {
    handle.incoming().refused.store(1);
    shared::full_fence();
    // A thread of ours that sleeps at this end hears nothing from the other side: the kernel wakes it, at the
    // price of this end's later sleeps, which find the stream ended anyway.
    if (handle.end().sleeper.load() & 1) libc().shutdown(handle.fd(), SHUT_RD);
    if (handle.end().futex_sleepers.load()) {
      handle.end().generation.fetch_add(1);
      shared::wake_all(handle.end().generation);
    }
  }
  poke_own_watchers(handle);
  return 0;
}

}  // namespace godwit::wrapper
