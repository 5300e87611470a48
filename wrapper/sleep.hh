// Sleeping until something holds, at one end of a connection: a short spin when that has paid lately, then
// the kernel. The protocol is tuplespace/shared/bell.hh's; what is waited for is always looked at again.
//
// The kernel part is a native recv, or a native poll when there is a time-out, so SA_RESTART, EINTR,
// cancellation and freezing are the kernel's own. Nothing is held but the end's slot, which the clean-up
// of a cancelled thread gives up.
#pragma once
#include <pthread.h>

#include "tuplespace/shared/spin.hh"
#include "wrapper/stream.hh"

namespace godwit::wrapper {

enum class Woke { kReady, kInterrupted, kTimedOut };

class Sleep {
 public:
  /// deadline: CLOCK_MONOTONIC ns, 0: none. handled: thread_state.handled when the call began.
  Sleep(Handle& handle, shared::Thread& self, uint64_t deadline, uint32_t handled)
      : handle_(handle), self_(self), deadline_(deadline), handled_(handled) {}

  /// Returns kReady also when the other end was found gone: the caller looks at everything again.
  template <class Ready>
  Woke until(Ready ready) {
    if (shared::spin(handle_.state().spin_credit, ready)) return Woke::kReady;
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
    shared::learn(handle_.state().spin_credit, shared::monotonic_ns() - begin);
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
