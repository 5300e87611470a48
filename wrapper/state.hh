// The wrapper's state in one process: whether it is awake, its Control, and each thread's standing.
//
// What must stay true: nothing here allocates or takes an interruptible lock, because socket calls are
// async-signal-safe; a thread is registered at its first call that needs the segment, which may be in a
// signal handler.
#pragma once
#include <errno.h>
#include <signal.h>

#include "tuplespace/shared/thread.hh"
#include "wrapper/control.hh"
#include "wrapper/libc.hh"
#include "wrapper/unmovable.hh"

namespace godwit::wrapper {

enum class Mode : uint32_t { kUnknown = 0, kStarting = 1, kDormant = 2, kAwake = 3 };

extern Control control;             // page aligned, in .bss: untouched pages cost nothing
extern shared::Segment segment;     // valid when awake
extern std::atomic<Mode> mode;

Mode start();  // finds the pod's file, maps the segment; once

/// Whether this process lives in a pod. While start() runs its own calls pass through.
inline bool awake() {
  Mode now = mode.load(std::memory_order_acquire);
  if (now == Mode::kUnknown) [[unlikely]] now = start();
  return now == Mode::kAwake;
}

/// A thread's private part. Zero-initialised initial-exec TLS: usable before any registration.
struct ThreadState {
  shared::Thread* self;      // null: not registered
  uint32_t entry;            // index in control.threads
  uint32_t handled;          // handlers without SA_RESTART that ran in this thread
  uint32_t turn;             // of its sleeps (bell.hh)
  bool deferred;             // `info` waits for the end of the section, with every signal blocked
  uint64_t saved_mask;
  siginfo_t info;
  uint64_t altstack, altstack_size;
  alignas(64) char storage[sizeof(shared::Thread)];
};
extern __thread ThreadState thread_state __attribute__((tls_model("initial-exec")));

shared::Thread* register_thread();

/// The calling thread's standing in the segment, or null if all slots are taken.
inline shared::Thread* self() {
  shared::Thread* t = thread_state.self;
  return t ? t : register_thread();
}

/// Forgets every thread but the caller, which registers anew at its next call. In a child after fork.
void forget_threads();
void note_altstack(const stack_t& stack);
void unmovable(Unmovable reason);

/// Our errno discipline: a call that succeeds leaves the program's errno alone.
class CallGuard {
 public:
  CallGuard() : errno_(errno) {}
  /// A result of our own: >= 0, or a negative errno.
  template <class T>
  long reply(T result) {
    errno = result < 0 ? static_cast<int>(-result) : errno_;
    return result < 0 ? -1 : static_cast<long>(result);
  }
  /// A result of the real function, which has set errno itself if it failed.
  template <class T>
  T pass(T result) {
    if (result >= 0) errno = errno_;
    return result;
  }

 private:
  int errno_;
};

}  // namespace godwit::wrapper
