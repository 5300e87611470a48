// Spinning before sleeping, for as long as that has paid lately.
#pragma once
#include "tuplespace/shared/futex.hh"

namespace godwit::shared {

inline constexpr uint64_t kSpin = 25'000;       // ns
inline constexpr uint64_t kLongYield = 300'000; // ns: a yield this long went to a third party, not to our peer
inline constexpr int32_t kPenalty = -32;        // short sleeps until spinning is tried again after that
inline constexpr uint64_t kShortSleep = 40'000; // ns: a sleep this short would have been better spun

/// Spins while there is credit, yielding after every so many looks. returns whether `ready` holds.
template <int kLooks = 24, class Ready>
bool spin(int32_t& credit, Ready ready) {
  if (credit <= 0) return false;
  uint64_t now = monotonic_ns(), end = now + kSpin;
  do {
    for (int i = 0; i < kLooks; ++i) {
      if (ready()) {
        if (credit < 4) credit++;
        return true;
      }
      cpu_relax();
    }
    uint64_t before = now;
    thread_yield();
    now = monotonic_ns();
    if (now - before > kLongYield) {
      // Others compute on this processor. A sleeper is scheduled soon after its wake-up; who yields, at their end.
      credit = kPenalty;
      return ready();
    }
  } while (now < end);
  credit--;
  return ready();
}

/// How a stretch of sleep bears on the next decision to spin.
inline void learn(int32_t& credit, uint64_t slept) {
  if (slept >= kShortSleep) return;
  if (credit < 0) credit++;
  else if (credit < 2) credit = 2;
}

}  // namespace godwit::shared
