// Waiting and waking on words of the segment. Shared futexes: the key is file and offset, so it does not
// matter through which mapping of the segment a word is reached.
#pragma once
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tuplespace/shared/types.hh"

namespace godwit::shared {

/// The kernel wakes only one waiter of a dead owner's word: the others look again after this long.
inline constexpr uint64_t kBackstop = 100'000'000;  // ns

inline long futex(std::atomic<uint32_t>& word, int operation, uint32_t value) {
  return syscall(SYS_futex, &word, operation, value, nullptr, nullptr, 0);
}
inline void wake_one(std::atomic<uint32_t>& word) { futex(word, FUTEX_WAKE, 1); }
inline void wake_all(std::atomic<uint32_t>& word) { futex(word, FUTEX_WAKE, INT_MAX); }
inline void thread_yield() { syscall(SYS_sched_yield); }

inline uint64_t monotonic_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

/// Waits until one of the words changes or is woken, at most `nanoseconds`.
/// returns 0, or -EINTR, -ETIMEDOUT, -EAGAIN (a word had changed already).
inline int wait_any(futex_waitv* words, uint32_t count, uint64_t nanoseconds) {
  uint64_t end = monotonic_ns() + nanoseconds;
  timespec t{static_cast<time_t>(end / 1'000'000'000), static_cast<long>(end % 1'000'000'000)};
  long r = syscall(SYS_futex_waitv, words, count, 0, &t, CLOCK_MONOTONIC);
  return r < 0 ? -errno : 0;
}

}  // namespace godwit::shared
