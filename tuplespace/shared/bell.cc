#include "tuplespace/shared/bell.hh"

namespace godwit::shared {
namespace {

// What was armed when the ringer looked, so that it disarms just that.
struct Armed {
  Watch watch[kWatches];
  uint32_t word[kWatches];
  uint32_t count = 0;
};

Armed mark_watchers(Thread& self, End& end, uint32_t events) {
  Armed armed;
  Section section(self);
  for (std::atomic<Watch>& slot : end.watches) {
    Watch w = slot.load();
    if (!w) continue;
    Set& set = *self.segment.at<Set>(watch_set(w));
    uint32_t index = watch_index(w);
    if (!(set.entries[index].events & (events | EPOLLHUP))) continue;
    mark(set, index);
    uint32_t word = set.armed.load();
    if (!(word & 1)) continue;
    armed.watch[armed.count] = w;
    armed.word[armed.count++] = word;
  }
  return armed;
}

void disarm_watchers(Thread& self, const Armed& armed) {
  Section section(self);
  for (uint32_t i = 0; i < armed.count; ++i)
    disarm(*self.segment.at<Set>(watch_set(armed.watch[i])), armed.word[i]);
}

void send_bell(int placeholder) {
  static const char kBell = 0;
  // The other side's queue is full only if it has some 278 unread bells: it is awake, or about to be.
  for (int tries = 0; tries < 1000; ++tries) {
    long r = syscall(SYS_sendto, placeholder, &kBell, 1, MSG_DONTWAIT | MSG_NOSIGNAL, nullptr, 0);
    if (r >= 0 || errno != EAGAIN) return;
    thread_yield();
  }
}

}  // namespace

// Somebody sleeps, or watches.
static __attribute__((noinline)) void ring_end(Thread& self, End& end, uint32_t events, int placeholder) {
  uint64_t sleeper = end.sleeper.load(std::memory_order_relaxed);
  Armed armed;
  if (end.watched.load(std::memory_order_relaxed)) armed = mark_watchers(self, end, events);
  if ((sleeper & 1) || armed.count || end.edge_sleepers.load(std::memory_order_relaxed)) {
    // Ring first, disarm after: a kill in between costs one bell, never a wake-up.
    int saved = errno;
    send_bell(placeholder);
    errno = saved;
    end.bells.fetch_add(1);
    if (sleeper & 1) end.sleeper.compare_exchange_strong(sleeper, sleeper & ~1ull);
    if (armed.count) disarm_watchers(self, armed);
  }
  if (end.futex_sleepers.load(std::memory_order_relaxed)) {
    end.generation.fetch_add(1);
    wake_all(end.generation);
  }
  if (end.net_armed.load(std::memory_order_relaxed) && (events & EPOLLIN)) ring_watchers(self, end.net_armed);
}

void notify(Thread& self, Socket& socket, uint32_t to, uint32_t events, int placeholder) {
  End& end = socket.ends[to];
  full_fence();
  // All on one line of the cache, which the publisher had to have anyway.
  uint64_t somebody = (end.sleeper.load(std::memory_order_relaxed) & 1) | end.watched.load(std::memory_order_relaxed) |
                      end.edge_sleepers.load(std::memory_order_relaxed) |
                      end.futex_sleepers.load(std::memory_order_relaxed) |
                      end.net_armed.load(std::memory_order_relaxed);
  if (somebody) ring_end(self, end, events, placeholder);
}

// FUTEX_WAKE_OP adds and wakes in one: between two calls a kill would leave a sleeper that nobody wakes.
void wake_watchers(const Segment& segment) {
  int saved = errno;
  std::atomic<uint32_t>& word = segment.header().net_generation;
  constexpr uint32_t kAddOne = FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0);
  syscall(SYS_futex, &word, FUTEX_WAKE_OP, INT_MAX, 0L, &word, kAddOne);
  errno = saved;
}

void ring_watchers(Thread& self, std::atomic<uint32_t>& armed) {
  uint32_t ticket = armed.load();
  {
    Section section(self);
    wake_watchers(self.segment);
  }
  armed.compare_exchange_strong(ticket, 0);  // after it: a kill in between costs one ring, never a wake-up
}

bool add_watch(End& end, Watch w) {
  for (std::atomic<Watch>& slot : end.watches) {
    Watch none = 0;
    if (slot.load() == w) return true;
    if (slot.compare_exchange_strong(none, w)) {
      end.watched.fetch_add(1);
      return true;
    }
  }
  return false;
}

void remove_watch(End& end, Watch w) {
  for (std::atomic<Watch>& slot : end.watches) {
    Watch expected = w;
    if (slot.compare_exchange_strong(expected, 0)) end.watched.fetch_sub(1);
  }
}

}  // namespace godwit::shared
