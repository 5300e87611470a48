// close, dup, fcntl, ioctl. docs/socket_calls.md#descriptors
//
// The order of a close: the number stands for nothing, then what we say about the end is said in the segment,
// then the kernel hangs up. So who hears the kernel finds the segment's word.
#include <stdarg.h>

#include "wrapper/options.hh"
#include "wrapper/stream.hh"

namespace godwit::wrapper {
namespace {

int duplicated(CallGuard& guard, int from, int to) {
  if (to < 0) return to;
  if (uint32_t word = descriptor_of(from)) copy_descriptor(to, word);
  return guard.pass(to);
}

// `to` is replaced: what it stood for is closed first, as the kernel closes it.
int duplicate_over(int from, int to, int flags, bool plain) {
  CallGuard guard;
  auto real = [&] { return plain ? libc().dup2(from, to) : libc().dup3(from, to, flags); };
  if (!awake() || from == to || libc().fcntl(from, F_GETFD) < 0) return guard.pass(real());
  if (to >= 0) forget_descriptor(to);
  return duplicated(guard, from, real());
}

void forget_range(unsigned first, unsigned last) {
  unsigned count = __atomic_load_n(&control.descriptor_count, __ATOMIC_ACQUIRE);
  for (unsigned fd = first; fd <= last && fd < count; ++fd) forget_descriptor(static_cast<int>(fd));
}

}  // namespace

WRAPPER_EXPORT int close(int fd) {
  CallGuard guard;
  if (awake()) forget_descriptor(fd);
  return guard.pass(libc().close(fd));
}
WRAPPER_ALIAS(__close, close);

WRAPPER_EXPORT int close_range(unsigned first, unsigned last, int flags) noexcept {
  CallGuard guard;
  if (awake() && first <= last && !(flags & CLOSE_RANGE_CLOEXEC)) forget_range(first, last);
  return guard.pass(libc().close_range(first, last, flags));
}

WRAPPER_EXPORT void closefrom(int first) noexcept {
  if (awake()) forget_range(first < 0 ? 0 : static_cast<unsigned>(first), ~0u - 1);
  libc().closefrom(first);
}

WRAPPER_EXPORT int dup(int fd) noexcept {
  CallGuard guard;
  return duplicated(guard, fd, libc().dup(fd));
}

WRAPPER_EXPORT int dup2(int from, int to) noexcept { return duplicate_over(from, to, 0, true); }
WRAPPER_ALIAS(__dup2, dup2);

WRAPPER_EXPORT int dup3(int from, int to, int flags) noexcept { return duplicate_over(from, to, flags, false); }

namespace {

// The kernel's flag and ours are set together: the kernel's speaks for accept, and for heirs of the description.
int set_flags(CallGuard& guard, Handle& handle, long flags) {
  int result = libc().fcntl(handle.fd(), F_SETFL, flags);
  if (result != 0) return result;
  if (flags & O_NONBLOCK) handle.end().flags.fetch_or(shared::kNonblock);
  else handle.end().flags.fetch_and(~static_cast<uint32_t>(shared::kNonblock));
  return guard.pass(result);
}

}  // namespace

WRAPPER_EXPORT int fcntl(int fd, int command, ...) {
  CallGuard guard;
  va_list list;
  va_start(list, command);
  long argument = va_arg(list, long);
  va_end(list);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) return duplicated(guard, fd, libc().fcntl(fd, command, argument));
  if (command == F_SETFL && is_socket(descriptor_of(fd))) {
    Handle handle(fd);
    if (handle) return set_flags(guard, handle, argument);
  }
  return guard.pass(libc().fcntl(fd, command, argument));
}
WRAPPER_ALIAS(__fcntl, fcntl);
WRAPPER_ALIAS(fcntl64, fcntl);

WRAPPER_EXPORT int ioctl(int fd, unsigned long request, ...) noexcept {
  CallGuard guard;
  va_list list;
  va_start(list, request);
  void* argument = va_arg(list, void*);
  va_end(list);
  Handle handle(fd);
  long result = handle && handle.socket_role() ? control_socket(handle, request, argument) : -ENOSYS;
  if (result == -ENOSYS) return guard.pass(libc().ioctl(fd, request, argument));
  return static_cast<int>(guard.reply(result));
}

}  // namespace godwit::wrapper
