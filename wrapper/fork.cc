#include "wrapper/fork.hh"

#include "wrapper/descriptors.hh"

namespace godwit::wrapper {

pid_t fork_with(pid_t (*real)()) {
  if (!awake()) return real();
  // Before, not after: else the parent could close an end and say so while the child keeps a copy.
  share_descriptors();
  uint64_t all = ~0ull, mask;
  syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &mask, 8);
  pid_t child = real();
  if (child == 0) {
    int saved = errno;
    forget_threads();
    recount_references();
    errno = saved;
  }
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, 8);
  return child;
}

}  // namespace godwit::wrapper
