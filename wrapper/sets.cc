// What must stay true: a virtual entry is marked by whoever makes it ready (the ringer, or we ourselves), and a
// mark is only ever cleared just before a look. Who sleeps has armed the set and looked at the marks after it.
#include "wrapper/sets.hh"

#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/end_lock.hh"
#include "wrapper/sleep.hh"
#include "wrapper/stream.hh"

namespace godwit::wrapper {
namespace {

using shared::Set;
using shared::Socket;
using shared::Thread;
using shared::WatchEntry;

constexpr uint32_t kBell = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
constexpr uint32_t kModes = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;
constexpr uint32_t kAlways = EPOLLHUP | EPOLLERR;
constexpr uint64_t kLookAtReal = 200'000;  // cycles between looks at real descriptors while virtual ones are ready
constexpr uint32_t kManyBells = 16;
constexpr int kBatch = 64;

// Watched, and armed if it is a oneshot.
bool active(const WatchEntry& entry) { return entry.word && (entry.events & ~kModes); }

// The socket behind an entry, if this process has it mapped; a set shared by fork may know more.
Socket* socket_of(const WatchEntry& entry) {
  uint32_t piece = descriptor_piece(entry.word);
  if (piece >= kControlPieces || control.pieces[piece].kind != PieceKind::kSocket) return nullptr;
  uint64_t address = __atomic_load_n(&control.pieces[piece].address, __ATOMIC_ACQUIRE);
  if (!address || address != entry.socket) return nullptr;
  Socket* socket = reinterpret_cast<Socket*>(address);
  return socket->generation.load(std::memory_order_relaxed) == entry.generation ? socket : nullptr;
}

// --- making and changing ---------------------------------------------------------------------------

// The piece of an epoll descriptor, made when the first virtual socket is added to it.
long ensure_set(int fd) {
  if (is_set(descriptor_of(fd))) return 0;
  Thread* t = self();
  if (!t || static_cast<uint32_t>(fd) >= kControlDescriptors) return -ENOMEM;
  shared::Section section(*t);  // until Control.pieces has it, a move would not know of the run
  shared::Offset offset;
  if (shared::allocate_set(*t, t->area->pod, &offset) != 0) return -ENOMEM;
  int piece = attach_piece(offset, shared::kSetLength, PieceKind::kSet, 0);
  shared::publish(*t);
  if (piece < 0) {
    shared::intend(*t, offset);
    shared::free_intent(*t);
    return -ENOMEM;
  }
  set_descriptor(fd, static_cast<uint32_t>(piece), Role::kSet);
  return 0;
}

epoll_event bell_event(int fd) {
  epoll_event event{};
  event.events = kBell;
  event.data.u64 = set_tag() | static_cast<uint32_t>(fd);
  return event;
}

void fill(WatchEntry& entry, Handle& target, const epoll_event& event) {
  entry.data = event.data.u64;
  entry.socket = reinterpret_cast<uint64_t>(&target.socket());
  entry.side = target.side();
  entry.generation = target.socket().generation.load();
  entry.word = target.word();
  shared::compiler_barrier();
  // As in the kernel: an error counts always, so an interest in nothing differs from a oneshot that has fired.
  entry.events = event.events | EPOLLERR;
}

long add(int set_fd, Set& set, Handle& target, const epoll_event& event) {
  uint32_t index = static_cast<uint32_t>(target.fd());
  WatchEntry& entry = set.entries[index];
  if (shared::reserve_entry(set, index) != 0) return -ENOMEM;
  epoll_event bell = bell_event(target.fd());
  fill(entry, target, event);
  if (!shared::add_watch(target.end(), set.offset | index)) {
    entry = WatchEntry{};
    unmovable(Unmovable::kManySets);
    return -ENOSPC;
  }
  shared::full_fence();
  shared::mark(set, index);
  // The edge that a fresh registration makes wakes whoever sleeps in the set.
  if (libc().epoll_ctl(set_fd, EPOLL_CTL_ADD, target.fd(), &bell) == 0) return 0;
  int error = errno;
  if (error != EEXIST) {
    shared::remove_watch(target.end(), set.offset | index);
    entry = WatchEntry{};
  }
  return -error;
}

long modify(int set_fd, Set& set, Handle& target, const epoll_event& event) {
  uint32_t index = static_cast<uint32_t>(target.fd());
  WatchEntry& entry = set.entries[index];
  if (entry.word && (entry.events & EPOLLEXCLUSIVE || event.events & EPOLLEXCLUSIVE)) return -EINVAL;
  fill(entry, target, event);
  shared::full_fence();
  shared::mark(set, index);
  shared::full_fence();
  if (!(set.armed.load() & 1)) return 0;
  epoll_event bell = bell_event(target.fd());
  return libc().epoll_ctl(set_fd, EPOLL_CTL_MOD, target.fd(), &bell) == 0 ? 0 : -errno;
}

long remove(int set_fd, Set& set, Handle& target) {
  if (libc().epoll_ctl(set_fd, EPOLL_CTL_DEL, target.fd(), nullptr) != 0) return -errno;
  uint32_t index = static_cast<uint32_t>(target.fd());
  set.entries[index].events = 0;
  set.entries[index].word = 0;
  shared::remove_watch(target.end(), set.offset | index);
  return 0;
}

// Whether the set watches this very socket by this number.
bool present(Set& set, Handle& target) {
  for (std::atomic<shared::Watch>& w : target.end().watches)
    if (w.load() == (set.offset | static_cast<uint32_t>(target.fd()))) return true;
  return false;
}

bool served_natively(Handle& target) {
  return !target.socket_role() || target.socket().state.load() == shared::SocketState::kListening;
}

// --- waiting ---------------------------------------------------------------------------------------

struct Output {
  epoll_event* events;
  int capacity;
  int count = 0;
  bool full() const { return count == capacity; }
};

// One entry: reported if it is ready. returns whether it shall be looked at again next time (level).
bool look(Set& set, uint32_t index, Output& out) {
  WatchEntry& entry = set.entries[index];
  if (!active(entry)) return false;
  Socket* socket = socket_of(entry);
  if (!socket) return false;
  uint32_t interest = entry.events;
  uint32_t ready = current_events(*socket, entry.side) & ((interest & ~kModes) | kAlways);
  if (!ready) return false;
  out.events[out.count].events = ready;
  out.events[out.count++].data.u64 = entry.data;
  if (interest & EPOLLONESHOT) {
    entry.events = interest & kModes;
    return false;
  }
  return !(interest & EPOLLET);
}

void harvest_virtual(Thread& self, Set& set, Output& out) {
  if (out.full() || !shared::any_marked(set)) return;
  uint32_t again[kBatch];
  int count = 0;
  shared::end_lock(self, set.lock);
  shared::harvest(set, [&](uint32_t index) {
    if (look(set, index, out)) again[count++] = index;
    return !out.full() && count < kBatch;
  });
  for (int i = 0; i < count; ++i) shared::mark(set, again[i]);
  shared::end_unlock(self, set.lock);
}

// A bell came through the set: eaten if there are many, and noted if it was the kernel's HUP.
void heed_bell(Thread& self, Set& set, const epoll_event& event) {
  uint32_t index = static_cast<uint32_t>(event.data.u64 & 0xffff);
  WatchEntry& entry = set.entries[index];
  Socket* socket = entry.word ? socket_of(entry) : nullptr;
  if (!socket) return;
  shared::End& end = socket->ends[entry.side];
  if ((event.events & (EPOLLHUP | EPOLLERR)) && socket->state.load() == shared::SocketState::kConnected) {
    if (peer_gone(*socket, entry.side)) shared::mark(set, index);
  }
  uint64_t mine;
  if (end.bells.load() < kManyBells || !shared::take_slot(self, end, &thread_state.turn, &mine)) return;
  char bells[512];
  end.bells.store(0);
  while (libc().recv(static_cast<int>(index), bells, sizeof bells, MSG_DONTWAIT) == sizeof bells) {
  }
  shared::leave_slot(end);
}

// Native events, without bells. returns how many the program gets, or a negative errno.
long native_wait(Thread& self, int set_fd, Set& set, Output& out, const timespec* timeout, const sigset_t* mask) {
  epoll_event events[kBatch];
  int room = out.capacity - out.count;
  int n = libc().epoll_pwait2(set_fd, events, room < kBatch ? room : kBatch, timeout, mask);
  if (n < 0) return -errno;
  for (int i = 0; i < n; ++i) {
    if ((events[i].data.u64 & ~0xffffull) == set_tag()) heed_bell(self, set, events[i]);
    else out.events[out.count++] = events[i];
  }
  return n;
}

struct Sleeping {  // in the set, for the clean-up of a cancelled thread
  Handle* handle;
};
void wake_up(void* sleeping) {
  Handle& handle = *static_cast<Sleeping*>(sleeping)->handle;
  // Others that still sleep are armed for again: the word serves all of them.
  if (handle.set().inside.fetch_sub(1) > 1) shared::arm(handle.set());
}
void abandon(void* sleeping) {
  wake_up(sleeping);
  static_cast<Sleeping*>(sleeping)->handle->release();
}

long sleep_in(Thread& self, Handle& handle, Output& out, const timespec* timeout, const sigset_t* mask) {
  Set& set = handle.set();
  Sleeping sleeping{&handle};
  long n = 0;
  set.inside.fetch_add(1);
  shared::arm(set);
  shared::full_fence();
  if (!shared::any_marked(set)) {
    pthread_cleanup_push(abandon, &sleeping);
    n = native_wait(self, handle.fd(), set, out, timeout, mask);
    pthread_cleanup_pop(0);
  }
  wake_up(&sleeping);
  return n;
}

// Marks were left while others sleep: a new edge wakes one of them.
void wake_sleepers(int set_fd, Set& set) {
  for (uint32_t k = 0; k < shared::kSetSize / 4096; ++k)
    for (uint64_t groups = set.summary[k].load(); groups; groups &= groups - 1) {
      uint32_t group = k * 64 + static_cast<uint32_t>(__builtin_ctzll(groups));
      for (uint64_t bits = set.leaf[group].load(); bits; bits &= bits - 1) {
        int fd = static_cast<int>(group * 64 + static_cast<uint32_t>(__builtin_ctzll(bits)));
        epoll_event bell = bell_event(fd);
        if (libc().epoll_ctl(set_fd, EPOLL_CTL_MOD, fd, &bell) == 0) return;
      }
    }
}

timespec span(int64_t ns) { return {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)}; }

struct Looked {
  uint64_t at;
};
__thread Looked last_look __attribute__((tls_model("initial-exec")));

}  // namespace

uint64_t set_tag() {
  static std::atomic<uint64_t> tag;
  uint64_t value = tag.load(std::memory_order_relaxed);
  if (value) return value;
  while (getrandom(&value, sizeof value, 0) != sizeof value) {
  }
  value = (value | 1ull << 63) & ~0xffffull;
  uint64_t none = 0;
  return tag.compare_exchange_strong(none, value) ? value : none;
}

long set_control(int set_fd, int operation, int fd, epoll_event* event) {
  Handle target(fd);
  if (!target || served_natively(target) || set_fd == fd)
    return libc().epoll_ctl(set_fd, operation, fd, event) == 0 ? 0 : -errno;
  if (operation != EPOLL_CTL_DEL && !event) return -EFAULT;
  if (operation == EPOLL_CTL_ADD) {
    // An edge-triggered look at a registration that fails tells what set_fd is.
    if (!is_set(descriptor_of(set_fd))) {
      if (libc().epoll_ctl(set_fd, EPOLL_CTL_DEL, fd, nullptr) != 0 && errno != ENOENT) return -errno;
    }
    if (long e = ensure_set(set_fd)) return e;
  }
  Handle set(set_fd);
  if (!set || set.socket_role()) return libc().epoll_ctl(set_fd, operation, fd, event) == 0 ? 0 : -errno;
  epoll_event copy{};
  if (event) copy = *event;
  if (operation == EPOLL_CTL_ADD && present(set.set(), target)) return -EEXIST;
  if (operation != EPOLL_CTL_ADD && !present(set.set(), target)) return -ENOENT;
  switch (operation) {
    case EPOLL_CTL_ADD: return add(set_fd, set.set(), target, copy);
    case EPOLL_CTL_MOD: return modify(set_fd, set.set(), target, copy);
    case EPOLL_CTL_DEL: return remove(set_fd, set.set(), target);
    default: return -EINVAL;
  }
}

long set_wait(int set_fd, epoll_event* events, int capacity, int64_t timeout_ns, const sigset_t* mask) {
  Handle handle(set_fd);
  Thread* t = self();
  if (!handle || handle.socket_role() || !t) {
    timespec t_native = span(timeout_ns < 0 ? 0 : timeout_ns);
    int n = libc().epoll_pwait2(set_fd, events, capacity, timeout_ns < 0 ? nullptr : &t_native, mask);
    return n < 0 ? -errno : n;
  }
  if (capacity <= 0) return -EINVAL;
  if (!events) return -EFAULT;
  Set& set = handle.set();
  Output out{events, capacity};
  uint64_t deadline = timeout_ns > 0 ? shared::monotonic_ns() + static_cast<uint64_t>(timeout_ns) : 0;
  uint32_t handled = thread_state.handled;
  timespec none{};
  for (;;) {
    // Real descriptors get their look from time to time also when virtual ones are always ready.
    if (cycles() - last_look.at > kLookAtReal && shared::any_marked(set)) {
      native_wait(*t, set_fd, set, out, &none, mask);
      last_look.at = cycles();
    }
    harvest_virtual(*t, set, out);
    if (out.count) {
      // Others who sleep here may have been passed over: what is left is theirs.
      if (set.inside.load() && shared::any_marked(set)) wake_sleepers(set_fd, set);
      return out.count;
    }
    if (timeout_ns == 0) {
      long n = native_wait(*t, set_fd, set, out, &none, mask);
      if (n < 0) return n;
      if (!out.count) harvest_virtual(*t, set, out);
      return out.count;
    }
    if (!mask && shared::spin(handle.state().spin_credit, [&] { return shared::any_marked(set); })) continue;
    if (thread_state.handled != handled) return -EINTR;
    timespec rest{}, *limit = nullptr;
    if (deadline) {
      uint64_t now = shared::monotonic_ns();
      rest = span(now >= deadline ? 0 : static_cast<int64_t>(deadline - now));
      limit = &rest;
    }
    uint64_t begin = shared::monotonic_ns();
    long n = sleep_in(*t, handle, out, limit, mask);
    if (n < 0) return n;
    shared::learn(handle.state().spin_credit, shared::monotonic_ns() - begin);
    last_look.at = cycles();
    if (out.count) {
      harvest_virtual(*t, set, out);
      return out.count;
    }
    if (deadline && !shared::any_marked(set) && shared::monotonic_ns() >= deadline) return 0;
  }
}

bool set_ready(int set_fd) {
  Handle handle(set_fd);
  if (!handle || handle.socket_role()) return false;
  Set& set = handle.set();
  for (uint32_t k = 0; k < shared::kSetSize / 4096; ++k)
    for (uint64_t groups = set.summary[k].load(); groups; groups &= groups - 1) {
      uint32_t group = k * 64 + static_cast<uint32_t>(__builtin_ctzll(groups));
      for (uint64_t bits = set.leaf[group].load(); bits; bits &= bits - 1) {
        WatchEntry& entry = set.entries[group * 64 + static_cast<uint32_t>(__builtin_ctzll(bits))];
        Socket* socket = active(entry) ? socket_of(entry) : nullptr;
        if (socket && (current_events(*socket, entry.side) & ((entry.events & ~kModes) | kAlways))) return true;
      }
    }
  return false;
}

int stop_watching(Handle& handle, NativeWatch (&watches)[shared::kWatches]) {
  shared::End& end = handle.end();
  int count = 0;
  for (std::atomic<shared::Watch>& slot : end.watches) {
    shared::Watch w = slot.load();
    int set_fd = w ? descriptor_of_set(shared::watch_set(w)) : -1;
    if (set_fd < 0) continue;
    Handle set(set_fd);
    if (!set || set.socket_role()) continue;
    NativeWatch& watch = watches[count++];
    watch.set = set_fd;
    watch.fd = static_cast<int>(shared::watch_index(w));
    WatchEntry& entry = set.set().entries[watch.fd];
    watch.event.events = entry.events;
    watch.event.data.u64 = entry.data;
    libc().epoll_ctl(set_fd, EPOLL_CTL_DEL, watch.fd, nullptr);
    entry.events = 0;
    entry.word = 0;
    shared::remove_watch(end, w);
  }
  return count;
}

void watch_natively(const NativeWatch* watches, int count) {
  for (int i = 0; i < count; ++i) {
    epoll_event event = watches[i].event;
    libc().epoll_ctl(watches[i].set, EPOLL_CTL_ADD, watches[i].fd, &event);
  }
}

}  // namespace godwit::wrapper
