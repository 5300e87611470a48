#include "wrapper/sleep.hh"

#include <poll.h>

namespace godwit::wrapper {

void Sleep::clean_up(void* sleep) {
  Sleep* self = static_cast<Sleep*>(sleep);
  shared::leave_slot(self->handle_.end());
  self->handle_.release();
}

// Old-style clean-up registration: this library is built without exceptions, so no destructor of ours
// runs when a cancelled thread unwinds.
long Sleep::cancellable_recv() {
  char bells[64];
  long n = 0;
  pthread_cleanup_push(clean_up, this);
  n = libc().recv(handle_.fd(), bells, sizeof bells, deadline_ ? MSG_DONTWAIT : 0);
  pthread_cleanup_pop(0);
  return n;
}

int Sleep::cancellable_poll() {
  uint64_t now = shared::monotonic_ns();
  uint64_t left = now >= deadline_ ? 0 : deadline_ - now;
  timespec limit{static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
  pollfd p{handle_.fd(), POLLIN, 0};
  int n = 0;
  pthread_cleanup_push(clean_up, this);
  n = libc().ppoll(&p, 1, &limit, nullptr);
  pthread_cleanup_pop(0);
  return n;
}

// returns bytes eaten, 0 when the other end is gone, or -1 with errno (EAGAIN: the deadline).
long Sleep::native_wait() {
  if (deadline_) {
    int n = cancellable_poll();
    if (n < 0) return -1;
    if (n == 0) {
      errno = EAGAIN;
      return -1;
    }
  }
  return cancellable_recv();
}

bool Sleep::doze(Woke* woke) {
  if (disturbed()) {
    // A handler without SA_RESTART ran since the call began, a moment too early to interrupt the sleep.
    *woke = Woke::kInterrupted;
    return false;
  }
  long n = native_wait();
  handle_.end().bells.store(0);
  if (n > 0) return true;
  if (n < 0 && errno == EINTR) *woke = Woke::kInterrupted;
  else if (n < 0 && errno == EAGAIN) *woke = Woke::kTimedOut;
  else if (n < 0 && errno == EBADF) *woke = Woke::kInterrupted;  // closed under us: the caller's next look tells
  else end_of_bells();
  return false;
}

// The other end is gone, or this one shut its receiving side down while somebody slept here: then no bell
// is heard any more and what remains to wait for (room to write) is looked for from time to time.
void Sleep::end_of_bells() {
  probe_peer(handle_, true);
  shared::End& end = handle_.end();
  if (handle_.socket().ends[1 - handle_.side()].flags.load() & (shared::kClosed | shared::kGone)) return;
  futex_waitv word{end.generation.load(), reinterpret_cast<uintptr_t>(&end.generation), FUTEX_32, 0};
  shared::wait_any(&word, 1, 5'000'000);
}

long Sleep::wait_futex(futex_waitv* word) {
  uint64_t wait = shared::kBackstop, now = shared::monotonic_ns();
  if (deadline_) wait = now >= deadline_ ? 0 : deadline_ - now < wait ? deadline_ - now : wait;
  return shared::wait_any(word, 1, wait);
}

Woke Sleep::after_futex(long result) {
  if (result == -EINTR) return Woke::kInterrupted;
  if (result == -ETIMEDOUT) {
    probe_peer(handle_, true);
    if (late()) return Woke::kTimedOut;
  }
  return Woke::kReady;
}

}  // namespace godwit::wrapper
