// Sleeping until something holds, at one end of a connection: a short spin when that has paid lately, then
// the kernel. The protocol is tuplespace/shared/bell.hh's; what is waited for is always looked at again.
//
// The kernel part is a native recv, or a native poll when there is a time-out, so SA_RESTART, EINTR,
// cancellation and freezing are the kernel's own. Nothing is held but the end's slot, which the clean-up
// of a cancelled thread gives up.
#pragma once
#include <pthread.h>

#include "wrapper/stream.hh"

namespace godwit::wrapper {

inline constexpr uint64_t kSpin = 25'000;       // ns
inline constexpr uint64_t kLongYield = 300'000; // ns: a yield this long went to a third party, not to our peer
inline constexpr int32_t kPenalty = -32;        // short sleeps until spinning is tried again after that
inline constexpr uint64_t kShortSleep = 40'000; // ns: a sleep this short would have been better spun

enum class Woke { kReady, kInterrupted, kTimedOut };

/// Spins, yielding, if this has paid lately. returns whether `ready` holds.
template <class Ready>
bool spin(int32_t& credit, Ready ready) {
  if (credit <= 0) return false;
  uint64_t now = shared::monotonic_ns(), end = now + kSpin;
  do {
    for (int i = 0; i < 24; ++i) {
      if (ready()) {
        if (credit < 4) credit++;
        return true;
      }
      shared::cpu_relax();
    }
    uint64_t before = now;
    syscall(SYS_sched_yield);
    now = shared::monotonic_ns();
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

class Sleep {
 public:
  /// deadline: CLOCK_MONOTONIC ns, 0: none. handled: thread_state.handled when the call began.
  Sleep(Handle& handle, shared::Thread& self, uint64_t deadline, uint32_t handled)
      : handle_(handle), self_(self), deadline_(deadline), handled_(handled) {}

  /// Returns kReady also when the other end was found gone: the caller looks at everything again.
  template <class Ready>
  Woke until(Ready ready) {
    if (spin(handle_.state().spin_credit, ready)) return Woke::kReady;
    uint64_t begin = shared::monotonic_ns();
    Woke woke = Woke::kReady;
    if (shared::take_slot(self_, handle_.end(), &thread_state.turn, &mine_)) {
      while (true) {
        shared::full_fence();
        if (ready()) break;
        if (!doze(&woke)) break;
        shared::rearm_slot(self_, handle_.end(), &thread_state.turn, &mine_);
      }
      shared::leave_slot(handle_.end());
    } else {
      woke = wait_behind(ready);
    }
    learn(handle_.state().spin_credit, shared::monotonic_ns() - begin);
    return woke;
  }

 private:
  bool doze(Woke* woke);  // true: a bell was eaten
  void end_of_bells();
  long native_wait();
  int cancellable_poll();
  long cancellable_recv();
  Woke after_futex(long result);
  bool late() const { return deadline_ && shared::monotonic_ns() >= deadline_; }
  bool disturbed() const { return thread_state.handled != handled_; }
  static void clean_up(void* self);

  template <class Ready>
  Woke wait_behind(Ready ready) {
    shared::End& end = handle_.end();
    end.futex_sleepers.fetch_add(1);
    Woke woke = Woke::kReady;
    uint32_t seen = end.generation.load();
    shared::full_fence();
    if (!ready() && end.sleeper.load()) {
      futex_waitv word{seen, reinterpret_cast<uintptr_t>(&end.generation), FUTEX_32, 0};
      woke = after_futex(wait_futex(&word));
    }
    end.futex_sleepers.fetch_sub(1);
    return woke;
  }
  long wait_futex(futex_waitv* word);

  Handle& handle_;
  shared::Thread& self_;
  uint64_t deadline_;
  uint32_t handled_;
  uint64_t mine_ = 0;
};

}  // namespace godwit::wrapper
