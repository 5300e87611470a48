// poll, select, epoll. docs/socket_calls.md#waiting
#include <sys/time.h>

#include "wrapper/sets.hh"
#include "wrapper/waiting.hh"

namespace godwit::wrapper {
namespace {

int64_t nanoseconds(int ms) { return ms < 0 ? -1 : static_cast<int64_t>(ms) * 1'000'000; }
int64_t nanoseconds(const timespec* t) {
  if (!t) return -1;
  return t->tv_sec > 9'000'000'000 ? INT64_MAX : t->tv_sec * 1'000'000'000 + t->tv_nsec;
}
bool valid(const timespec* t) { return !t || (t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < 1'000'000'000); }

}  // namespace

WRAPPER_EXPORT int poll(pollfd* fds, nfds_t count, int timeout) {
  CallGuard guard;
  if (!any_virtual(fds, count)) return guard.pass(libc().poll(fds, count, timeout));
  return static_cast<int>(guard.reply(poll_all(fds, count, nanoseconds(timeout), nullptr)));
}
WRAPPER_ALIAS(__poll, poll);

WRAPPER_EXPORT int ppoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  CallGuard guard;
  if (!any_virtual(fds, count)) return guard.pass(libc().ppoll(fds, count, timeout, mask));
  if (!valid(timeout)) return static_cast<int>(guard.reply(-EINVAL));
  return static_cast<int>(guard.reply(poll_all(fds, count, nanoseconds(timeout), mask)));
}

extern "C" [[noreturn]] void __chk_fail();

WRAPPER_EXPORT int __poll_chk(pollfd* fds, nfds_t count, int timeout, size_t room) {
  if (room / sizeof *fds < count) __chk_fail();
  return poll(fds, count, timeout);
}
WRAPPER_EXPORT int __ppoll_chk(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask, size_t room) {
  if (room / sizeof *fds < count) __chk_fail();
  return ppoll(fds, count, timeout, mask);
}

WRAPPER_EXPORT int select(int count, fd_set* read, fd_set* write, fd_set* except, timeval* timeout) {
  CallGuard guard;
  if (count < 0 || !any_virtual(count, read, write, except))
    return guard.pass(libc().select(count, read, write, except, timeout));
  if (timeout && (timeout->tv_sec < 0 || timeout->tv_usec < 0)) return static_cast<int>(guard.reply(-EINVAL));
  int64_t ns = timeout ? timeout->tv_sec * 1'000'000'000 + timeout->tv_usec * 1000 : -1;
  uint64_t begin = shared::monotonic_ns();
  long result = select_all(count, read, write, except, ns, nullptr);
  if (timeout && result != -EINVAL) {  // Linux leaves the rest of the time there
    int64_t rest = ns - static_cast<int64_t>(shared::monotonic_ns() - begin);
    if (rest < 0) rest = 0;
    *timeout = {static_cast<time_t>(rest / 1'000'000'000), static_cast<suseconds_t>(rest % 1'000'000'000 / 1000)};
  }
  return static_cast<int>(guard.reply(result));
}
WRAPPER_ALIAS(__select, select);

WRAPPER_EXPORT int pselect(int count, fd_set* read, fd_set* write, fd_set* except, const timespec* timeout,
                           const sigset_t* mask) {
  CallGuard guard;
  if (count < 0 || !any_virtual(count, read, write, except))
    return guard.pass(libc().pselect(count, read, write, except, timeout, mask));
  if (!valid(timeout)) return static_cast<int>(guard.reply(-EINVAL));
  return static_cast<int>(guard.reply(select_all(count, read, write, except, nanoseconds(timeout), mask)));
}

WRAPPER_EXPORT int epoll_create(int size) noexcept {
  CallGuard guard;
  return guard.pass(libc().epoll_create(size));
}

WRAPPER_EXPORT int epoll_create1(int flags) noexcept {
  CallGuard guard;
  return guard.pass(libc().epoll_create1(flags));
}

WRAPPER_EXPORT int epoll_ctl(int set, int operation, int fd, epoll_event* event) noexcept {
  CallGuard guard;
  if (!is_socket(descriptor_of(fd))) return guard.pass(libc().epoll_ctl(set, operation, fd, event));
  return static_cast<int>(guard.reply(set_control(set, operation, fd, event)));
}

WRAPPER_EXPORT int epoll_wait(int set, epoll_event* events, int capacity, int timeout) {
  CallGuard guard;
  if (!is_set(descriptor_of(set))) return guard.pass(libc().epoll_wait(set, events, capacity, timeout));
  return static_cast<int>(guard.reply(set_wait(set, events, capacity, nanoseconds(timeout), nullptr)));
}

WRAPPER_EXPORT int epoll_pwait(int set, epoll_event* events, int capacity, int timeout, const sigset_t* mask) {
  CallGuard guard;
  if (!is_set(descriptor_of(set))) return guard.pass(libc().epoll_pwait(set, events, capacity, timeout, mask));
  return static_cast<int>(guard.reply(set_wait(set, events, capacity, nanoseconds(timeout), mask)));
}

WRAPPER_EXPORT int epoll_pwait2(int set, epoll_event* events, int capacity, const timespec* timeout, const sigset_t* mask) {
  CallGuard guard;
  if (!is_set(descriptor_of(set))) return guard.pass(libc().epoll_pwait2(set, events, capacity, timeout, mask));
  if (!valid(timeout)) return static_cast<int>(guard.reply(-EINVAL));
  return static_cast<int>(guard.reply(set_wait(set, events, capacity, nanoseconds(timeout), mask)));
}

}  // namespace godwit::wrapper
