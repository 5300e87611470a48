// socket, bind, listen, accept, connect, shutdown, names and options. docs/socket_calls.md#connections
#include "wrapper/options.hh"
#include "wrapper/rendezvous.hh"
#include "wrapper/stream.hh"

namespace godwit::wrapper {

WRAPPER_EXPORT int socket(int domain, int type, int protocol) noexcept {
  CallGuard guard;
  if (!is_virtual_kind(domain, type, protocol) || !awake()) return guard.pass(libc().socket(domain, type, protocol));
  return static_cast<int>(guard.reply(make_socket(domain, type)));
}

WRAPPER_EXPORT int bind(int fd, const sockaddr* address, socklen_t length) noexcept {
  CallGuard guard;
  Handle handle(fd);
  if (!handle) return guard.pass(libc().bind(fd, address, length));
  return static_cast<int>(guard.reply(bind_socket(handle, address, length)));
}

WRAPPER_EXPORT int listen(int fd, int backlog) noexcept {
  CallGuard guard;
  Handle handle(fd);
  if (!handle) return guard.pass(libc().listen(fd, backlog));
  return static_cast<int>(guard.reply(listen_socket(handle, backlog)));
}

WRAPPER_EXPORT int accept4(int fd, sockaddr* address, socklen_t* length, int flags) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle) return guard.pass(libc().accept4(fd, address, length, flags));
  return static_cast<int>(guard.reply(accept_socket(handle, address, length, flags)));
}

WRAPPER_EXPORT int accept(int fd, sockaddr* address, socklen_t* length) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle) return guard.pass(libc().accept(fd, address, length));
  return static_cast<int>(guard.reply(accept_socket(handle, address, length, 0)));
}

WRAPPER_EXPORT int connect(int fd, const sockaddr* address, socklen_t length) {
  CallGuard guard;
  Handle handle(fd);
  if (!handle) return guard.pass(libc().connect(fd, address, length));
  return static_cast<int>(guard.reply(connect_socket(handle, address, length)));
}
WRAPPER_ALIAS(__connect, connect);

WRAPPER_EXPORT int shutdown(int fd, int how) noexcept {
  CallGuard guard;
  Handle handle(fd);
  if (!handle) return guard.pass(libc().shutdown(fd, how));
  return static_cast<int>(guard.reply(shut(handle, how)));
}

WRAPPER_EXPORT int getsockname(int fd, sockaddr* address, socklen_t* length) noexcept {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) return guard.pass(libc().getsockname(fd, address, length));
  return static_cast<int>(guard.reply(own_address(handle, address, length)));
}

WRAPPER_EXPORT int getpeername(int fd, sockaddr* address, socklen_t* length) noexcept {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) return guard.pass(libc().getpeername(fd, address, length));
  return static_cast<int>(guard.reply(peer_address(handle, address, length)));
}

WRAPPER_EXPORT int getsockopt(int fd, int level, int name, void* value, socklen_t* length) noexcept {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) return guard.pass(libc().getsockopt(fd, level, name, value, length));
  return static_cast<int>(guard.reply(get_option(handle, level, name, value, length)));
}

WRAPPER_EXPORT int setsockopt(int fd, int level, int name, const void* value, socklen_t length) noexcept {
  CallGuard guard;
  Handle handle(fd);
  if (!handle || !handle.socket_role()) return guard.pass(libc().setsockopt(fd, level, name, value, length));
  return static_cast<int>(guard.reply(set_option(handle, level, name, value, length)));
}

WRAPPER_EXPORT int sockatmark(int fd) noexcept {
  CallGuard guard;
  if (!is_socket(descriptor_of(fd))) return guard.pass(libc().sockatmark(fd));
  return 0;
}

}  // namespace godwit::wrapper
