// What must stay true: the program sees its own handlers through sigaction, the kernel sees ours; the
// kernel's mask and flags are the program's, but for SA_RESETHAND, which we do ourselves: a signal that
// was put off and raised again would find the default action otherwise.
#include "wrapper/signals.hh"

#include <linux/futex.h>
#include <string.h>
#include <ucontext.h>

#include "tuplespace/shared/futex.hh"
#include "wrapper/state.hh"

namespace godwit::wrapper {
namespace {

struct Handler {
  std::atomic<uintptr_t> function{0};
  std::atomic<int> flags{0};
};
constinit Handler handlers[NSIG + 1];
constinit std::atomic<uint32_t> handlers_lock{0};  // held with all signals blocked

class HandlersLock {
 public:
  HandlersLock() {
    uint64_t all = ~0ull;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &mask_, 8);
    while (handlers_lock.exchange(1, std::memory_order_acquire)) shared::thread_yield();
  }
  ~HandlersLock() {
    handlers_lock.store(0, std::memory_order_release);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask_, nullptr, 8);
  }

 private:
  uint64_t mask_;
};

// A fault of the code that runs cannot be put off: returning from the handler would raise it again.
bool synchronous(int sig, const siginfo_t* info) {
  return info->si_code > 0 && (sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE || sig == SIGTRAP);
}

void put_off(ThreadState& state, const siginfo_t* info, ucontext_t* context) {
  // Everything stays blocked until the section ends, so one place to keep a signal is enough.
  memcpy(&state.saved_mask, &context->uc_sigmask, 8);
  memset(&context->uc_sigmask, 0xff, 8);
  state.info = *info;
  state.deferred = true;
  state.self->deferred = true;
}

void reset_to_default(int sig) {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  libc().sigaction(sig, &standard, nullptr);
}

void trampoline(int sig, siginfo_t* info, void* context) {
  ThreadState& state = thread_state;
  shared::Thread* self = state.self;
  if (self && self->busy && !synchronous(sig, info))
    return put_off(state, info, static_cast<ucontext_t*>(context));
  Handler& handler = handlers[sig];
  int flags = handler.flags.load(std::memory_order_acquire);
  uintptr_t function = handler.function.load(std::memory_order_relaxed);
  if (flags & static_cast<int>(SA_RESETHAND)) reset_to_default(sig);
  if (!(flags & SA_RESTART)) state.handled++;
  // Without SA_SIGINFO the kernel passes the same three arguments anyway.
  reinterpret_cast<void (*)(int, siginfo_t*, void*)>(function)(sig, info, context);
}

bool ours(const struct sigaction& action) { return action.sa_sigaction == trampoline; }

void to_program(int sig, struct sigaction& action) {
  if (!ours(action)) return;
  Handler& handler = handlers[sig];
  action.sa_sigaction = reinterpret_cast<void (*)(int, siginfo_t*, void*)>(handler.function.load());
  int kept = SA_SIGINFO | static_cast<int>(SA_RESETHAND);
  action.sa_flags = (action.sa_flags & ~kept) | (handler.flags.load() & kept);
}

int replace(int sig, const struct sigaction* wanted, struct sigaction* old) {
  bool handler = wanted && wanted->sa_handler != SIG_DFL && wanted->sa_handler != SIG_IGN &&
                 wanted->sa_handler != SIG_ERR;
  HandlersLock lock;
  struct sigaction before;
  if (libc().sigaction(sig, nullptr, &before) != 0) return -1;
  to_program(sig, before);
  int result = 0;
  if (handler) {
    struct sigaction action = *wanted;
    action.sa_sigaction = trampoline;
    action.sa_flags = (wanted->sa_flags & ~static_cast<int>(SA_RESETHAND)) | SA_SIGINFO;
    handlers[sig].function.store(reinterpret_cast<uintptr_t>(wanted->sa_sigaction), std::memory_order_relaxed);
    handlers[sig].flags.store(wanted->sa_flags, std::memory_order_release);
    result = libc().sigaction(sig, &action, nullptr);
  } else if (wanted) {
    result = libc().sigaction(sig, wanted, nullptr);
  }
  if (result == 0 && old) *old = before;
  return result;
}

int do_sigaction(int sig, const struct sigaction* wanted, struct sigaction* old) {
  if (!awake() || sig < 1 || sig >= NSIG) return libc().sigaction(sig, wanted, old);
  struct sigaction copy;  // the program's pointers may overlap, and may fault: not under our lock
  if (wanted) copy = *wanted;
  struct sigaction before;
  int result = replace(sig, wanted ? &copy : nullptr, &before);
  if (result == 0 && old) *old = before;
  return result;
}

sighandler_t install(int sig, sighandler_t function, int flags) {
  struct sigaction wanted {}, old;
  wanted.sa_handler = function;
  wanted.sa_flags = flags;
  if (function == SIG_ERR || sig < 1 || sig >= NSIG) {
    errno = EINVAL;
    return SIG_ERR;
  }
  if (!(flags & SA_NODEFER)) sigaddset(&wanted.sa_mask, sig);
  return do_sigaction(sig, &wanted, &old) == 0 ? old.sa_handler : SIG_ERR;
}

constinit std::atomic<uint64_t> interrupting{0};  // siginterrupt(sig, 1) was said; bit sig - 1

int restart_flag(int sig) {
  return sig >= 1 && sig < NSIG && (interrupting.load() >> (sig - 1) & 1) ? 0 : SA_RESTART;
}

}  // namespace

void leaving_section(shared::Thread& self) {
  ThreadState& state = thread_state;
  int saved = errno;
  while (!*self.inside && *static_cast<volatile uint32_t*>(self.park))
    syscall(SYS_futex, self.park, FUTEX_WAIT_PRIVATE, 1, nullptr, nullptr, 0);
  if (!self.busy && state.deferred) {
    // Raised while all is blocked: it is delivered at the moment the program's mask comes back.
    uint64_t mask = state.saved_mask;
    state.deferred = false;
    self.deferred = false;
    syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), state.info.si_signo, &state.info);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, 8);
  }
  errno = saved;
}

WRAPPER_EXPORT int sigaction(int sig, const struct sigaction* wanted, struct sigaction* old) noexcept {
  return do_sigaction(sig, wanted, old);
}
WRAPPER_ALIAS(__sigaction, sigaction);

WRAPPER_EXPORT sighandler_t signal(int sig, sighandler_t function) noexcept {
  return install(sig, function, restart_flag(sig));
}
WRAPPER_ALIAS(bsd_signal, signal);
WRAPPER_ALIAS(ssignal, signal);

WRAPPER_EXPORT sighandler_t sysv_signal(int sig, sighandler_t function) noexcept {
  return install(sig, function, static_cast<int>(SA_RESETHAND) | SA_NODEFER);
}
WRAPPER_ALIAS(__sysv_signal, sysv_signal);

WRAPPER_EXPORT int sigignore(int sig) noexcept { return install(sig, SIG_IGN, 0) == SIG_ERR ? -1 : 0; }

WRAPPER_EXPORT sighandler_t sigset(int sig, sighandler_t disposition) noexcept {
  sigset_t one, before;
  sigemptyset(&one);
  if (sigaddset(&one, sig) != 0) return SIG_ERR;
  bool hold = disposition == SIG_HOLD;
  if (libc().sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &one, &before) != 0) return SIG_ERR;
  struct sigaction old;
  if (do_sigaction(sig, nullptr, &old) != 0) return SIG_ERR;
  if (!hold && install(sig, disposition, 0) == SIG_ERR) return SIG_ERR;
  return sigismember(&before, sig) ? SIG_HOLD : old.sa_handler;
}

WRAPPER_EXPORT int siginterrupt(int sig, int interrupt) noexcept {
  struct sigaction action;
  if (do_sigaction(sig, nullptr, &action) != 0) return -1;
  if (interrupt) {
    interrupting.fetch_or(1ull << (sig - 1));
    action.sa_flags &= ~SA_RESTART;
  } else {
    interrupting.fetch_and(~(1ull << (sig - 1)));
    action.sa_flags |= SA_RESTART;
  }
  return do_sigaction(sig, &action, nullptr);
}

WRAPPER_EXPORT int sigaltstack(const stack_t* wanted, stack_t* old) noexcept {
  int result = libc().sigaltstack(wanted, old);
  if (result == 0 && wanted) note_altstack(*wanted);
  return result;
}

}  // namespace godwit::wrapper
