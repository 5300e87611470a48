// Sleeping on a word of the segment.
#pragma once
#include <atomic>
#include <chrono>

#include "tuplespace/shared/futex.hh"
#include "tuplespace/wait.hh"

namespace godwit::store {

/// A waiter looks for itself that often: so it cannot be forgotten, whoever was killed in whatever moment.
inline constexpr std::chrono::milliseconds kTick{500};

/// Changes the bell, a word that is slept on. returns whether somebody may sleep and is to be woken.
inline bool ring(std::atomic<uint32_t>& bell, std::atomic<uint32_t>& sleeps) {
  bell.fetch_add(1);
  return sleeps.exchange(0);
}

/// Sleeps until the word is not `seen`, at most until the deadline or one tick. Waking without reason is fine.
/// returns false: the tick has passed.
inline bool sleep_on(std::atomic<uint32_t>& word, uint32_t seen, Deadline deadline, std::chrono::nanoseconds tick) {
  Deadline now = std::chrono::steady_clock::now();
  if (deadline <= now) return true;
  std::chrono::nanoseconds time = std::min<std::chrono::nanoseconds>(tick, deadline - now);
  timespec t{time.count() / 1'000'000'000, time.count() % 1'000'000'000};
  long r = syscall(SYS_futex, &word, FUTEX_WAIT, seen, &t, nullptr, 0);
  return !(r < 0 && errno == ETIMEDOUT && time == tick);
}

}  // namespace godwit::store
