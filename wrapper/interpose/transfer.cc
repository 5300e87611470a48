// Reading and writing. Cancellation points, so not noexcept. docs/socket_calls.md#transfer
#include <netinet/in.h>

#include "wrapper/stream.hh"

namespace godwit::wrapper {
namespace {

constexpr int kFlags = MSG_DONTWAIT | MSG_PEEK | MSG_WAITALL | MSG_TRUNC | MSG_OOB | MSG_NOSIGNAL;

iovec one(const void* buffer, size_t length) { return {const_cast<void*>(buffer), length}; }

bool bad_vector(const iovec* iov, int count) {
  if (count < 0 || count > IOV_MAX) return true;
  size_t total = 0;
  for (int i = 0; i < count; ++i) {
    if (iov[i].iov_len > SSIZE_MAX - total) return true;
    total += iov[i].iov_len;
  }
  return false;
}

// TCP gives no source address, no ancillary data.
long receive_message(Handle& handle, msghdr* message, int flags) {
  if (message->msg_iovlen > IOV_MAX) return -EMSGSIZE;
  long n = receive(handle, message->msg_iov, static_cast<int>(message->msg_iovlen), flags & kFlags);
  if (n < 0) return n;
  message->msg_namelen = 0;
  message->msg_controllen = 0;
  message->msg_flags = 0;
  return n;
}

long transmit_message(Handle& handle, const msghdr* message, int flags) {
  if (message->msg_iovlen > IOV_MAX) return -EMSGSIZE;
  return transmit(handle, message->msg_iov, static_cast<int>(message->msg_iovlen), flags & kFlags);
}

// Descriptors that came over an AF_UNIX socket may be virtual ones.
void adopt_received(const msghdr* message) {
  if (!awake() || !message->msg_control) return;
  for (cmsghdr* c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(const_cast<msghdr*>(message), c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const int* fds = reinterpret_cast<const int*>(CMSG_DATA(c));
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) adopt_descriptor(fds[i]);
  }
}
bool carries_descriptors(const msghdr* message) {
  return message && message->msg_control && message->msg_controllen >= CMSG_LEN(sizeof(int));
}

}  // namespace

WRAPPER_EXPORT ssize_t read(int fd, void* buffer, size_t length) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) return guard.pass(libc().read(fd, buffer, length));
  iovec part = one(buffer, length);
  return guard.reply(receive(handle, &part, 1, 0));
}
WRAPPER_ALIAS(__read, read);

WRAPPER_EXPORT ssize_t readv(int fd, const iovec* iov, int count) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) return guard.pass(libc().readv(fd, iov, count));
  if (bad_vector(iov, count)) return guard.reply(-EINVAL);
  return guard.reply(receive(handle, iov, count, 0));
}

WRAPPER_EXPORT ssize_t write(int fd, const void* buffer, size_t length) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) return guard.pass(libc().write(fd, buffer, length));
  iovec part = one(buffer, length);
  return guard.reply(transmit(handle, &part, 1, 0));
}
WRAPPER_ALIAS(__write, write);

WRAPPER_EXPORT ssize_t writev(int fd, const iovec* iov, int count) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) return guard.pass(libc().writev(fd, iov, count));
  if (bad_vector(iov, count)) return guard.reply(-EINVAL);
  return guard.reply(transmit(handle, iov, count, 0));
}

WRAPPER_EXPORT ssize_t recv(int fd, void* buffer, size_t length, int flags) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) return guard.pass(libc().recv(fd, buffer, length, flags));
  iovec part = one(buffer, length);
  return guard.reply(receive(handle, &part, 1, flags & kFlags));
}

WRAPPER_EXPORT ssize_t recvfrom(int fd, void* buffer, size_t length, int flags, sockaddr* from, socklen_t* from_length) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role())
    return guard.pass(libc().recvfrom(fd, buffer, length, flags, from, from_length));
  iovec part = one(buffer, length);
  long n = receive(handle, &part, 1, flags & kFlags);
  if (n >= 0 && from && from_length) *from_length = 0;
  return guard.reply(n);
}

WRAPPER_EXPORT ssize_t recvmsg(int fd, msghdr* message, int flags) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) {
    ssize_t n = libc().recvmsg(fd, message, flags);
    if (n >= 0 && carries_descriptors(message)) adopt_received(message);
    return guard.pass(n);
  }
  return guard.reply(receive_message(handle, message, flags));
}

WRAPPER_EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) return guard.pass(libc().recvmmsg(fd, messages, count, flags, timeout));
  unsigned done = 0;
  for (long n = 0; done < count; ++done) {
    n = receive_message(handle, &messages[done].msg_hdr, done && (flags & MSG_WAITFORONE) ? flags | MSG_DONTWAIT : flags);
    if (n < 0 && done == 0) return static_cast<int>(guard.reply(n));
    if (n < 0) break;
    messages[done].msg_len = static_cast<unsigned>(n);
    if (n == 0) return static_cast<int>(guard.reply(static_cast<long>(done) + 1));
  }
  return static_cast<int>(guard.reply(static_cast<long>(done)));
}

WRAPPER_EXPORT ssize_t send(int fd, const void* buffer, size_t length, int flags) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) return guard.pass(libc().send(fd, buffer, length, flags));
  iovec part = one(buffer, length);
  return guard.reply(transmit(handle, &part, 1, flags & kFlags));
}
WRAPPER_ALIAS(__send, send);

WRAPPER_EXPORT ssize_t sendto(int fd, const void* buffer, size_t length, int flags, const sockaddr* to, socklen_t to_length) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) return guard.pass(libc().sendto(fd, buffer, length, flags, to, to_length));
  iovec part = one(buffer, length);
  return guard.reply(transmit(handle, &part, 1, flags & kFlags));
}

WRAPPER_EXPORT ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) {
    if (carries_descriptors(message) && awake()) share_descriptors();
    return guard.pass(libc().sendmsg(fd, message, flags));
  }
  return guard.reply(transmit_message(handle, message, flags));
}

WRAPPER_EXPORT int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) return guard.pass(libc().sendmmsg(fd, messages, count, flags));
  unsigned done = 0;
  for (; done < count; ++done) {
    long n = transmit_message(handle, &messages[done].msg_hdr, flags);
    if (n < 0 && done == 0) return static_cast<int>(guard.reply(n));
    if (n < 0) break;
    messages[done].msg_len = static_cast<unsigned>(n);
  }
  return static_cast<int>(guard.reply(static_cast<long>(done)));
}

namespace {

// File to virtual socket: what was read but did not fit is left to the next call, by reading with pread first
// and moving the file's position only by what went out.
long send_file(Handle& handle, int in, off_t* offset, size_t count) {
  off_t at = offset ? *offset : lseek(in, 0, SEEK_CUR);
  if (at < 0) return -EINVAL;
  char buffer[16 << 10];
  size_t done = 0;
  long result = 0;
  while (done < count) {
    size_t wanted = count - done < sizeof buffer ? count - done : sizeof buffer;
    ssize_t n = pread(in, buffer, wanted, at + static_cast<off_t>(done));
    if (n < 0) result = -errno;
    if (n <= 0) break;
    iovec part = one(buffer, static_cast<size_t>(n));
    result = transmit(handle, &part, 1, 0);
    if (result <= 0) break;
    done += static_cast<size_t>(result);
    if (result < n) break;
  }
  if (offset) *offset = at + static_cast<off_t>(done);
  else lseek(in, at + static_cast<off_t>(done), SEEK_SET);
  return done ? static_cast<long>(done) : result;
}

}  // namespace

WRAPPER_EXPORT ssize_t sendfile(int out, int in, off_t* offset, size_t count) noexcept {
  CallGuard guard;
  Handle handle(out);
  if (is_socket(descriptor_of(in))) return guard.reply(-EINVAL);
  if (!handle || !handle.socket_role()) return guard.pass(libc().sendfile(out, in, offset, count));
  return guard.reply(send_file(handle, in, offset, count));
}
WRAPPER_ALIAS(sendfile64, sendfile);

// EINVAL says that this descriptor cannot be spliced: programs copy instead.
WRAPPER_EXPORT ssize_t splice(int in, off64_t* in_offset, int out, off64_t* out_offset, size_t length, unsigned flags) {
  CallGuard guard;
  if (is_socket(descriptor_of(in)) || is_socket(descriptor_of(out))) return guard.reply(-EINVAL);
  return guard.pass(libc().splice(in, in_offset, out, out_offset, length, flags));
}

// What _FORTIFY_SOURCE makes of the same calls: the size of the buffer is known to the compiler.
extern "C" [[noreturn]] void __chk_fail();

WRAPPER_EXPORT ssize_t __read_chk(int fd, void* buffer, size_t length, size_t room) {
  if (length > room) __chk_fail();
  return read(fd, buffer, length);
}
WRAPPER_EXPORT ssize_t __recv_chk(int fd, void* buffer, size_t length, size_t room, int flags) {
  if (length > room) __chk_fail();
  return recv(fd, buffer, length, flags);
}
WRAPPER_EXPORT ssize_t __recvfrom_chk(int fd, void* buffer, size_t length, size_t room, int flags, sockaddr* from,
                                      socklen_t* from_length) {
  if (length > room) __chk_fail();
  return recvfrom(fd, buffer, length, flags, from, from_length);
}

}  // namespace godwit::wrapper
