// What must stay true: while we sleep in the kernel, every connected virtual socket among the descriptors has
// been armed and looked at again; what was armed is given up on every way out, also a cancellation.
#include "wrapper/waiting.hh"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <new>

#include "wrapper/sets.hh"
#include "wrapper/sleep.hh"
#include "wrapper/stream.hh"

namespace godwit::wrapper {
namespace {

using shared::SocketState;
using shared::Thread;

// Somebody else of this pod sleeps at the same end and reads its bells: we look again this often.
constexpr int64_t kBehind = 5'000'000;  // ns

// Room for n items, on the stack when they are few; poll(2) may be called in a signal handler, so no malloc.
template <class T, size_t kFew>
class Room {
 public:
  explicit Room(size_t n) : items_(reinterpret_cast<T*>(few_)) {
    if (n <= kFew) return;
    length_ = n * sizeof(T);
    void* p = mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    items_ = p == MAP_FAILED ? nullptr : static_cast<T*>(p);
  }
  ~Room() {
    if (items_ && length_) munmap(items_, length_);
  }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;
  T* data() { return items_; }
  T& operator[](size_t i) { return items_[i]; }

 private:
  alignas(T) char few_[kFew * sizeof(T)];
  T* items_;
  size_t length_ = 0;
};

struct Virtual {
  Handle handle;
  uint32_t index;   // in the program's array
  bool armed = false;
  uint64_t mine = 0;
  Virtual(int fd, uint32_t i) : handle(fd), index(i) {}
  bool native() const {  // the kernel alone says whether it is ready
    return handle.socket_role() && handle.socket().state.load() == SocketState::kListening;
  }
};

__thread int32_t poll_credit __attribute__((tls_model("initial-exec")));
__thread bool poll_credit_given __attribute__((tls_model("initial-exec")));

class Poll {
 public:
  Poll(Thread& self, pollfd* fds, nfds_t count)
      : self_(self), fds_(fds), count_(count), virtuals_(count), native_(count) {}
  bool prepare();
  ~Poll() { release(); }
  long wait(int64_t timeout_ns, const sigset_t* mask);

 private:
  int look();
  bool ready() const;
  bool arm();
  void disarm();
  long native_poll(const timespec* timeout, const sigset_t* mask);
  void heed();
  int merge();
  void release();
  static void clean_up(void* poll);

  Thread& self_;
  pollfd* fds_;
  nfds_t count_;
  Room<Virtual, 32> virtuals_;
  Room<pollfd, 64> native_;
  size_t virtual_count_ = 0;
  bool behind_ = false;
};

bool Poll::prepare() {
  if (!virtuals_.data() || !native_.data()) return false;
  for (nfds_t i = 0; i < count_; ++i) {
    native_[i] = fds_[i];
    native_[i].revents = 0;
    fds_[i].revents = 0;
    if (!descriptor_of(fds_[i].fd)) continue;
    Virtual* v = new (&virtuals_[virtual_count_]) Virtual(fds_[i].fd, static_cast<uint32_t>(i));
    if (!v->handle) continue;
    ++virtual_count_;
    if (v->handle.socket_role() && !v->native()) native_[i].fd = -1;
  }
  return true;
}

void Poll::release() {
  for (size_t i = 0; i < virtual_count_; ++i) virtuals_[i].handle.release();
  virtual_count_ = 0;
}

// Fills in revents of virtual sockets. returns how many have any.
int Poll::look() {
  int found = 0;
  for (size_t i = 0; i < virtual_count_; ++i) {
    Virtual& v = virtuals_[i];
    pollfd& p = fds_[v.index];
    if (v.native()) continue;
    uint32_t interest = static_cast<uint16_t>(p.events) | POLLHUP | POLLERR;
    if (v.handle.socket_role()) {
      p.revents = static_cast<short>(current_events(v.handle.socket(), v.handle.side()) & interest);
    } else {
      p.revents = static_cast<short>(set_ready(p.fd) ? interest & (POLLIN | POLLRDNORM) : 0);
    }
    if (p.revents) ++found;
  }
  return found;
}

bool Poll::ready() const { return const_cast<Poll*>(this)->look() > 0; }

bool Poll::arm() {
  behind_ = false;
  for (size_t i = 0; i < virtual_count_; ++i) {
    Virtual& v = virtuals_[i];
    if (v.native()) continue;
    if (!v.handle.socket_role()) {
      v.handle.set().inside.fetch_add(1);
      shared::arm(v.handle.set());
      v.armed = true;
      continue;
    }
    v.armed = shared::take_slot(self_, v.handle.end(), &thread_state.turn, &v.mine);
    bool gone = v.handle.socket().ends[1 - v.handle.side()].flags.load() & (shared::kClosed | shared::kGone);
    if (!v.armed) behind_ = true;
    // Its placeholder hangs up for good when the other end is gone, and says nothing more.
    native_[v.index].fd = gone ? -1 : v.handle.fd();
    native_[v.index].events = v.armed ? POLLIN : 0;
  }
  shared::full_fence();
  return true;
}

void Poll::disarm() {
  for (size_t i = 0; i < virtual_count_; ++i) {
    Virtual& v = virtuals_[i];
    if (!v.armed) continue;
    v.armed = false;
    if (v.handle.socket_role()) shared::leave_slot(v.handle.end());
    else v.handle.set().inside.fetch_sub(1);
  }
}

void Poll::clean_up(void* poll) {
  static_cast<Poll*>(poll)->disarm();
  static_cast<Poll*>(poll)->release();
}

long Poll::native_poll(const timespec* timeout, const sigset_t* mask) {
  timespec limit{0, kBehind};
  bool shortened = behind_ && (!timeout || timeout->tv_sec || timeout->tv_nsec > kBehind);
  long n = 0;
  pthread_cleanup_push(clean_up, this);
  n = libc().ppoll(native_.data(), count_, shortened ? &limit : timeout, mask);
  pthread_cleanup_pop(0);
  return n < 0 ? -errno : n;
}

// What placeholders said: bells are eaten, hang-ups noted. A later look decides.
void Poll::heed() {
  for (size_t i = 0; i < virtual_count_; ++i) {
    Virtual& v = virtuals_[i];
    if (v.native() || !v.handle.socket_role()) continue;
    short said = native_[v.index].revents;
    native_[v.index].revents = 0;
    if ((said & (POLLHUP | POLLERR)) && v.handle.connected()) peer_gone(v.handle.socket(), v.handle.side());
    if (!(said & POLLIN) || !v.armed) continue;
    char bells[512];
    v.handle.end().bells.store(0);
    while (libc().recv(v.handle.fd(), bells, sizeof bells, MSG_DONTWAIT) == sizeof bells) {
    }
  }
}

// Native answers for everything that is not a virtual connection. returns how many descriptors have events.
int Poll::merge() {
  int found = 0;
  for (size_t i = 0; i < virtual_count_; ++i)
    if (!virtuals_[i].native() && virtuals_[i].handle.socket_role()) native_[virtuals_[i].index].revents = 0;
  for (nfds_t i = 0; i < count_; ++i) {
    fds_[i].revents = static_cast<short>(fds_[i].revents | native_[i].revents);
    if (fds_[i].revents) ++found;
  }
  return found;
}

long Poll::wait(int64_t timeout_ns, const sigset_t* mask) {
  uint64_t deadline = timeout_ns > 0 ? shared::monotonic_ns() + static_cast<uint64_t>(timeout_ns) : 0;
  uint32_t handled = thread_state.handled;
  if (!poll_credit_given) poll_credit = 2, poll_credit_given = true;
  timespec none{};
  for (size_t i = 0; i < virtual_count_; ++i)
    if (virtuals_[i].handle.socket_role() && virtuals_[i].handle.connected()) probe_peer(virtuals_[i].handle);
  for (bool first = true;; first = false) {
    if (look() || timeout_ns == 0) {
      long n = native_poll(&none, mask);
      if (n < 0 && n != -EINTR) return n;
      heed();
      look();
      return merge();
    }
    // Real descriptors may be ready: they are asked once before the spin, which watches virtual ones only.
    if (first && poll_credit > 0 && !mask) {
      if (virtual_count_ < count_ && native_poll(&none, nullptr) > 0) {
        heed();
        if (look() + merge() > 0) return look(), merge();
      }
      if (shared::spin(poll_credit, [&] { return ready(); })) continue;
    }
    if (thread_state.handled != handled) return -EINTR;
    timespec rest{}, *limit = nullptr;
    uint64_t now = shared::monotonic_ns();
    if (deadline) {
      uint64_t left = now >= deadline ? 0 : deadline - now;
      rest = {static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
      limit = &rest;
    }
    arm();
    long n = ready() ? 0 : native_poll(limit, mask);
    if (n >= 0) heed();
    disarm();
    if (n < 0) return n;
    shared::learn(poll_credit, shared::monotonic_ns() - now);
    look();
    if (int found = merge()) return found;
    if (deadline && shared::monotonic_ns() >= deadline) return 0;
  }
}

}  // namespace

bool any_virtual(const pollfd* fds, nfds_t count) {
  if (!awake() || !fds) return false;
  for (nfds_t i = 0; i < count; ++i)
    if (descriptor_of(fds[i].fd)) return true;
  return false;
}

bool any_virtual(int count, const fd_set* read, const fd_set* write, const fd_set* except) {
  if (!awake()) return false;
  for (int fd = 0; fd < count && fd < static_cast<int>(kControlDescriptors); ++fd) {
    if (!__atomic_load_n(&control.descriptors[fd], __ATOMIC_RELAXED)) continue;
    for (const fd_set* set : {read, write, except})
      if (set && (set->fds_bits[fd / 64] >> (fd % 64) & 1)) return true;
  }
  return false;
}

long poll_all(pollfd* fds, nfds_t count, int64_t timeout_ns, const sigset_t* mask) {
  Thread* t = self();
  if (!t) return -ENOMEM;
  Poll poll(*t, fds, count);
  if (!poll.prepare()) return -ENOMEM;
  return poll.wait(timeout_ns, mask);
}

namespace {

bool has(const fd_set* set, int fd) { return set && (set->fds_bits[fd / 64] >> (fd % 64) & 1); }
void put(fd_set* set, int fd, bool on) {
  if (!set) return;
  long bit = 1l << (fd % 64);
  set->fds_bits[fd / 64] = on ? set->fds_bits[fd / 64] | bit : set->fds_bits[fd / 64] & ~bit;
}

// As fs/select.c groups events.
constexpr short kIn = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR;
constexpr short kOut = POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR;
constexpr short kExcept = POLLPRI;

}  // namespace

long select_all(int count, fd_set* read, fd_set* write, fd_set* except, int64_t timeout_ns, const sigset_t* mask) {
  Room<pollfd, 64> list(static_cast<size_t>(count));
  if (!list.data()) return -ENOMEM;
  nfds_t n = 0;
  for (int fd = 0; fd < count && fd < static_cast<int>(kControlDescriptors); ++fd) {
    short events = 0;
    if (has(read, fd)) events |= POLLIN | POLLRDNORM | POLLRDBAND;
    if (has(write, fd)) events |= POLLOUT | POLLWRNORM | POLLWRBAND;
    if (has(except, fd)) events |= POLLPRI;
    if (events) list[n++] = pollfd{fd, events, 0};
  }
  // A closed peer shows in select's sets only where it makes a descriptor ready, never by itself: an end
  // that is watched for writing alone is not woken by POLLHUP. So waiting goes on until something counts.
  long result = poll_all(list.data(), n, timeout_ns, mask);
  if (result < 0) return result;
  long found = 0;
  for (nfds_t i = 0; i < n; ++i)
    if (list[i].revents & POLLNVAL) return -EBADF;
  for (nfds_t i = 0; i < n; ++i) {
    int fd = list[i].fd;
    short events = list[i].revents;
    bool r = has(read, fd) && (events & kIn), w = has(write, fd) && (events & kOut), e = has(except, fd) && (events & kExcept);
    put(read, fd, r);
    put(write, fd, w);
    put(except, fd, e);
    found += r + w + e;
  }
  return found;
}

}  // namespace godwit::wrapper
