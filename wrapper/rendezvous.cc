// The kernel's AF_UNIX sockets do the waiting: the backlog, a blocking accept, poll and epoll of a listener
// are native. What must stay true: a name is bound before it can be found, and a listener whose name nobody
// has bound any more (its program was killed) does not keep its port.
#include "wrapper/rendezvous.hh"

#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include "tuplespace/shared/allocator.hh"
#include "wrapper/options.hh"
#include "wrapper/sets.hh"
#include "wrapper/stream.hh"

namespace godwit::wrapper {
namespace {

using shared::Address;
using shared::End;
using shared::Name;
using shared::Section;
using shared::Socket;
using shared::SocketState;
using shared::Thread;

struct UnixAddress {
  sockaddr_un address;
  socklen_t length;
  explicit UnixAddress(const Name& name) {
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, name.text, name.length);
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path)) + name.length;
  }
  const sockaddr* data() const { return reinterpret_cast<const sockaddr*>(&address); }
};

// As the kernel reads a sockaddr for a socket of this family. returns 0 or a negative errno.
long read_address(uint32_t family, const sockaddr* from, socklen_t length, Address* out) {
  *out = Address{};
  if (!from) return -EFAULT;
  if (length < sizeof(sa_family_t)) return -EINVAL;
  if (from->sa_family == AF_INET && family == AF_INET) {
    if (length < sizeof(sockaddr_in)) return -EINVAL;
    sockaddr_in v4;
    memcpy(&v4, from, sizeof v4);
    out->family = AF_INET;
    out->port = ntohs(v4.sin_port);
    memcpy(out->bytes, &v4.sin_addr, 4);
    return 0;
  }
  if (from->sa_family == AF_INET6 && family == AF_INET6) {
    if (length < 24) return -EINVAL;  // SIN6_LEN_RFC2133
    sockaddr_in6 v6{};
    memcpy(&v6, from, length < sizeof v6 ? length : sizeof v6);
    out->family = AF_INET6;
    out->port = ntohs(v6.sin6_port);
    out->scope = v6.sin6_scope_id;
    memcpy(out->bytes, &v6.sin6_addr, 16);
    return 0;
  }
  return -EAFNOSUPPORT;
}

bool is_mapped(const Address& a) {
  static constexpr uint8_t kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return a.family == AF_INET6 && memcmp(a.bytes, kPrefix, 12) == 0;
}
// ::ffff:1.2.3.4 names the same listener as 1.2.3.4.
Address unmapped(const Address& a) {
  if (!is_mapped(a)) return a;
  Address v4{};
  v4.family = AF_INET;
  v4.port = a.port;
  memcpy(v4.bytes, a.bytes + 12, 4);
  return v4;
}
Address loopback(uint32_t family);

// As a socket of `family` shows it.
Address in_family(const Address& a, uint32_t family) {
  if (a.family == family || a.family == 0) return a;
  if (family == AF_INET) {
    Address v4 = is_mapped(a) ? unmapped(a) : loopback(AF_INET);
    v4.port = a.port;
    return v4;
  }
  Address v6{};
  v6.family = AF_INET6;
  v6.port = a.port;
  if (shared::is_wildcard(a)) return v6;
  v6.bytes[10] = v6.bytes[11] = 0xff;
  memcpy(v6.bytes + 12, a.bytes, 4);
  return v6;
}

long write_address(const Address& a, uint32_t family, sockaddr* to, socklen_t* length) {
  if (!to || !length) return to ? -EFAULT : 0;
  if (static_cast<int>(*length) < 0) return -EINVAL;
  sockaddr_in6 storage{};
  socklen_t whole;
  Address shown = in_family(a, family);
  if (family == AF_INET) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(shown.port);
    memcpy(&v4.sin_addr, shown.bytes, 4);
    whole = sizeof v4;
    memcpy(&storage, &v4, whole);
  } else {
    storage.sin6_family = AF_INET6;
    storage.sin6_port = htons(shown.port);
    storage.sin6_scope_id = shown.scope;
    memcpy(&storage.sin6_addr, shown.bytes, 16);
    whole = sizeof storage;
  }
  memcpy(to, &storage, *length < whole ? *length : whole);
  *length = whole;
  return 0;
}

Address loopback(uint32_t family) {
  Address a{};
  a.family = static_cast<uint16_t>(family);
  if (family == AF_INET) {
    a.bytes[0] = 127;
    a.bytes[3] = 1;
  } else {
    a.bytes[15] = 1;
  }
  return a;
}

// Whether a living socket has the abstract name: else it can be bound.
bool name_in_use(const Name& name) {
  int fd = static_cast<int>(syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (fd < 0) return true;
  UnixAddress probe(name);
  bool in_use = libc().bind(fd, probe.data(), probe.length) != 0 && errno == EADDRINUSE;
  libc().close(fd);
  return in_use;
}

// Takes the entry of a listener on this host whose program is gone out of the directory.
bool drop_stale_listener(Thread& self, const Address& address) {
  shared::Listener found;
  {
    Section section(self);
    if (!shared::find_listener(self.segment, address, &found)) return false;
  }
  if (found.state.load() != shared::ListenerState::kLocal || name_in_use(shared::listener_name(self.segment, found.id)))
    return false;
  shared::remove_listener(self, found.id);
  return true;
}

// Whether a socket of the other family has the port already, where one of the two is for both families.
bool taken_for_both(Thread& self, Handle& handle, const Address& bound) {
  if (bound.port == 0 || !shared::is_wildcard(bound)) return false;
  Address other{};
  other.family = bound.family == AF_INET ? AF_INET6 : AF_INET;
  other.port = bound.port;
  Section section(self);
  shared::Listener found;
  if (!shared::find_listener(self.segment, other, &found) || found.family != other.family) return false;
  if (bound.family == AF_INET6) return !v6_only(handle.end());
  return found.socket && !v6_only(self.segment.at<Socket>(found.socket)->ends[0]);
}

long enter_address(Thread& self, Handle& handle, Address address) {
  Socket& socket = handle.socket();
  uint64_t id = 0;
  Address bound = unmapped(address);
  if (taken_for_both(self, handle, bound)) {
    Address other = bound;
    other.family = bound.family == AF_INET ? AF_INET6 : AF_INET;
    if (!drop_stale_listener(self, other)) return -EADDRINUSE;
  }
  int result = shared::add_listener(self, socket, &bound, handle.end().pod, &id);
  if (result == -EADDRINUSE && drop_stale_listener(self, bound))
    result = shared::add_listener(self, socket, &bound, handle.end().pod, &id);
  if (result) return result == -ENOSPC ? -ENOBUFS : result;
  address.port = bound.port;
  handle.end().address = address;
  UnixAddress name(shared::listener_name(self.segment, id));
  if (libc().bind(handle.fd(), name.data(), name.length) != 0) {
    int error = errno;
    shared::remove_listener(self, id);
    socket.listener = 0;
    return -error;
  }
  return 0;
}

// The table of listeners has changed: the node, if there is one, tells the community.
void tell_node() {
  int fd = libc().socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  UnixAddress node(shared::node_name(segment));
  libc().sendto(fd, "", 1, MSG_NOSIGNAL, node.data(), node.length);
  libc().close(fd);
}

// A placeholder that was bound for bind(2) cannot get the name of a connection: another takes its place.
long renew_placeholder(int fd) {
  int flags = libc().fcntl(fd, F_GETFL), descriptor_flags = libc().fcntl(fd, F_GETFD);
  int fresh = static_cast<int>(syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (flags & O_NONBLOCK), 0));
  if (fresh < 0) return -errno;
  long result = libc().dup3(fresh, fd, descriptor_flags & FD_CLOEXEC ? O_CLOEXEC : 0) < 0 ? -errno : 0;
  libc().close(fresh);
  return result;
}

// --- connect ---------------------------------------------------------------------------------------

// The number becomes a kernel socket, connected or connecting to an address outside the community.
long leave_for_kernel(Handle& handle, int fresh) {
  int fd = handle.fd(), flags = libc().fcntl(fd, F_GETFD);
  NativeWatch watches[shared::kWatches];
  int count = stop_watching(handle, watches);
  forget_descriptor(fd);
  long result = libc().dup3(fresh, fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0) < 0 ? -errno : 0;
  libc().close(fresh);
  watch_natively(watches, count);
  return result;
}

long connect_outside(Handle& handle, const sockaddr* address, socklen_t length) {
  End& end = handle.end();
  int type = SOCK_STREAM | SOCK_CLOEXEC | (handle.nonblocking() ? SOCK_NONBLOCK : 0);
  int fresh = libc().socket(static_cast<int>(handle.socket().family), type, 0);
  if (fresh < 0) return -errno;
  apply_options(end, fresh);
  if (handle.socket().listener) {  // the program asked for this source address
    sockaddr_in6 own;
    socklen_t n = sizeof own;
    write_address(end.address, handle.socket().family, reinterpret_cast<sockaddr*>(&own), &n);
    if (libc().bind(fresh, reinterpret_cast<sockaddr*>(&own), n) != 0) {
      int error = errno;
      libc().close(fresh);
      return -error;
    }
  }
  long result = libc().connect(fresh, address, length) == 0 ? 0 : -errno;
  if (result == 0 || result == -EINPROGRESS || result == -EINTR) {
    long left = leave_for_kernel(handle, fresh);
    return left < 0 ? left : result;
  }
  libc().close(fresh);
  return result;
}

// Whether the address is one of this host: then it can be bound.
bool is_own_address(const Address& address) {
  int fd = libc().socket(address.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  sockaddr_in6 own;
  socklen_t length = sizeof own;
  Address any_port = address;
  any_port.port = 0;
  write_address(any_port, address.family, reinterpret_cast<sockaddr*>(&own), &length);
  bool bound = libc().bind(fd, reinterpret_cast<sockaddr*>(&own), length) == 0;
  libc().close(fd);
  return bound;
}

bool look_up(Thread& self, const Address& to, shared::Listener* listener) {
  {
    Section section(self);
    if (shared::find_listener(self.segment, to, listener)) return true;
  }
  if (shared::is_loopback(to) || shared::is_wildcard(to) || !is_own_address(to)) return false;
  Address here = loopback(to.family);
  here.port = to.port;
  Section section(self);
  return shared::find_listener(self.segment, here, listener);
}

void prepare_connection(Thread& self, Socket& socket, const shared::Listener& listener, const Address& to) {
  Section section(self);
  socket.id = shared::next_connection(self.segment);
  socket.listener = listener.id;
  uint16_t port = socket.ends[0].address.port;
  socket.ends[0].address = shared::is_wildcard(to) ? loopback(to.family) : to;
  socket.ends[0].address.port = port ? port : shared::client_port(socket.id);
  socket.ends[1].address = socket.ends[0].address;
  socket.ends[1].address.port = to.port;
  socket.ends[1].pod = listener.pod;
  socket.ends[1].linger = -1;
  socket.state.store(SocketState::kConnected, std::memory_order_release);
}

void undo_connection(Socket& socket) {
  socket.listener = 0;
  socket.ends[1].pod = 0;
  socket.state.store(SocketState::kFresh);
}

// The kernel's backlog is 4096 deep; should it be full, a non-blocking connect waits for it too, for AF_UNIX
// has no event that would say when to try again.
int connect_name(Handle& handle, const UnixAddress& name) {
  int result = libc().connect(handle.fd(), name.data(), name.length);
  if (result == 0 || errno != EAGAIN) return result;
  int flags = libc().fcntl(handle.fd(), F_GETFL);
  libc().fcntl(handle.fd(), F_SETFL, flags & ~O_NONBLOCK);
  result = libc().connect(handle.fd(), name.data(), name.length);
  int saved = errno;
  libc().fcntl(handle.fd(), F_SETFL, flags);
  errno = saved;
  return result;
}

// returns 1: nobody listens there (any more).
long connect_name_of(Handle& handle, Socket& socket, uint64_t listener) {
  Thread* t = self();
  UnixAddress own(shared::connection_name(t->segment, socket.id, socket.offset));
  UnixAddress theirs(shared::listener_name(t->segment, listener));
  if (libc().bind(handle.fd(), own.data(), own.length) != 0) {
    int error = errno;
    undo_connection(socket);
    return -error;
  }
  if (connect_name(handle, theirs) == 0) {
    shared::notify_connection(*t);
    return 0;
  }
  int error = errno;
  undo_connection(socket);
  if (long e = renew_placeholder(handle.fd())) return e;
  return error == ECONNREFUSED ? 1 : -error;
}

long connect_inside(Thread& self, Handle& handle, const shared::Listener& listener, const Address& to) {
  // A section: names belong to this host's segment, and a half-made connection does not move. Should the backlog be
  // full, a freeze waits, and the move is tried again.
  Section section(self);
  Socket& socket = handle.socket();
  if (socket.listener) {  // bound by bind(2): its port stays, its name and entry go
    shared::remove_listener(self, socket.listener);
    if (long e = renew_placeholder(handle.fd())) return e;
  }
  prepare_connection(self, socket, listener, to);
  return connect_name_of(handle, socket, listener.id);
}

long connected_now(Handle& handle) {
  // A TCP socket's first non-blocking connect always says EINPROGRESS; the next one tells the outcome.
  if (!handle.nonblocking()) return 0;
  handle.end().flags.fetch_or(shared::kConnecting);
  poke_own_watchers(handle);
  return -EINPROGRESS;
}

// The node's bridge connects for us, so that the program stays movable. returns 1: there is no bridge.
long connect_by_bridge(Thread& self, Handle& handle, const Address& to) {
  Socket& socket = handle.socket();
  if (socket.listener) return 1;  // a source address of the real network is asked for
  shared::Listener bridge{};
  bridge.id = shared::kEgress;
  socket.connecting.store(1);
  prepare_connection(self, socket, bridge, to);
  socket.ends[1].address = to;
  long result = connect_name_of(handle, socket, shared::kEgress);
  if (result != 0) {
    socket.connecting.store(0);
    return result;
  }
  if (handle.nonblocking()) return connected_now(handle);
  if (long waited = wait_for_bridge(handle)) return waited;
  int error = handle.end().error.exchange(0);
  if (!error) return 0;
  if (long e = renew_placeholder(handle.fd())) return e;
  undo_connection(socket);
  socket.ends[1].flags.store(0);
  return -error;
}

long connect_again(Handle& handle) {
  if (handle.socket().connecting.load()) return handle.nonblocking() ? -EALREADY : wait_for_bridge(handle);
  if (int error = handle.end().error.exchange(0)) return -error;
  uint32_t before = handle.end().flags.fetch_and(~static_cast<uint32_t>(shared::kConnecting));
  return before & shared::kConnecting ? 0 : -EISCONN;
}

}  // namespace

uint32_t family_of(Handle& handle) {
  return handle.side() ? handle.end().address.family : handle.socket().family;
}

bool is_virtual_kind(int domain, int type, int protocol) {
  if (domain != AF_INET && domain != AF_INET6) return false;
  if ((type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != SOCK_STREAM) return false;
  return protocol == 0 || protocol == IPPROTO_TCP;
}

long make_socket(int domain, int type) {
  Thread* t = self();
  if (!t) return -ENOBUFS;
  // A section: between the allocation and the entry in Control.pieces a move would not know of the run.
  Section section(*t);
  shared::Offset offset;
  if (shared::allocate_socket(*t, static_cast<uint32_t>(domain), t->area->pod, &offset) != 0) return -ENOBUFS;
  int piece = attach_piece(offset, shared::kSocketLength, PieceKind::kSocket, 0);
  int fd = piece < 0 ? -1 : libc().socket(AF_UNIX, type, 0);
  if (fd < 0 || static_cast<uint32_t>(fd) >= kControlDescriptors) {
    long error = piece < 0 ? -ENOMEM : fd < 0 ? -errno : -EMFILE;
    if (fd >= 0) libc().close(fd);
    shared::publish(*t);
    if (piece >= 0) {
      drop_piece(static_cast<uint32_t>(piece));  // frees the run
    } else {
      shared::intend(*t, offset);
      shared::free_intent(*t);
    }
    return error;
  }
  Socket& socket = *reinterpret_cast<Socket*>(control.pieces[piece].address);
  if (type & SOCK_NONBLOCK) socket.ends[0].flags.fetch_or(shared::kNonblock);
  socket.ends[0].address.family = static_cast<uint16_t>(domain);
  set_descriptor(fd, static_cast<uint32_t>(piece), Role::kSocket);
  shared::publish(*t);
  return fd;
}

long bind_socket(Handle& handle, const sockaddr* address, socklen_t length) {
  Thread* t = self();
  Address wanted;
  if (!t) return -ENOBUFS;
  if (long e = read_address(handle.socket().family, address, length, &wanted)) return e;
  if (handle.socket().state.load() != SocketState::kFresh || handle.socket().listener) return -EINVAL;
  return enter_address(*t, handle, wanted);
}

long listen_socket(Handle& handle, int backlog) {
  Thread* t = self();
  if (!t) return -ENOBUFS;
  Socket& socket = handle.socket();
  SocketState state = socket.state.load();
  if (state == SocketState::kConnected) return -EINVAL;
  if (!socket.listener) {
    Address any{};
    any.family = static_cast<uint16_t>(socket.family);
    if (long e = enter_address(*t, handle, any)) return e;
  }
  socket.backlog.store(backlog < 0 ? 4096 : static_cast<uint32_t>(backlog));
  if (state == SocketState::kListening) return 0;
  if (libc().listen(handle.fd(), 4096) != 0) return -errno;
  socket.state.store(SocketState::kListening, std::memory_order_release);
  tell_node();
  NativeWatch watches[shared::kWatches];
  watch_natively(watches, stop_watching(handle, watches));
  return 0;
}

long connect_socket(Handle& handle, const sockaddr* address, socklen_t length) {
  Thread* t = self();
  if (!t) return -ENOBUFS;
  Socket& socket = handle.socket();
  SocketState state = socket.state.load();
  if (address && length >= sizeof(sa_family_t) && address->sa_family == AF_UNSPEC)
    return state == SocketState::kConnected ? -EOPNOTSUPP : 0;
  if (state == SocketState::kConnected) return connect_again(handle);
  if (state == SocketState::kListening) return -EISCONN;
  Address to;
  if (long e = read_address(socket.family, address, length, &to)) return e;
  for (;;) {
    shared::Listener listener;
    if (!look_up(*t, unmapped(to), &listener)) break;
    long result = connect_inside(*t, handle, listener, to);
    if (result == 0) return connected_now(handle);
    if (result < 0) return result;
    if (!drop_stale_listener(*t, unmapped(to))) return -ECONNREFUSED;  // bound, but nobody listens
  }
  long bridged = connect_by_bridge(*t, handle, to);
  return bridged == 1 ? connect_outside(handle, address, length) : bridged;
}

namespace {

// The connection that a native accept brought, or null if its client is gone without a trace.
bool identify(Thread& self, const sockaddr_un& name, socklen_t length, uint64_t* id, shared::Offset* offset) {
  uint32_t text = length - static_cast<uint32_t>(offsetof(sockaddr_un, sun_path));
  if (length <= offsetof(sockaddr_un, sun_path) ||
      !shared::parse_connection_name(self.segment, name.sun_path, text, id, offset))
    return false;
  Section section(self);
  if (*offset == 0 || *offset + shared::kSocketLength > self.segment.header().size) return false;
  Socket& socket = *self.segment.at<Socket>(*offset);
  return socket.state.load(std::memory_order_acquire) == SocketState::kConnected && socket.id == *id;
}

long adopt_connection(Thread& self, Handle& listener, int fd, shared::Offset offset, int flags) {
  if (static_cast<uint32_t>(fd) >= kControlDescriptors) return -EMFILE;
  int piece = attach_piece(offset, shared::kSocketLength, PieceKind::kSocket, 1);
  if (piece < 0) return piece;
  Socket& socket = *reinterpret_cast<Socket*>(control.pieces[piece].address);
  End& end = socket.ends[1];
  const End& model = listener.end();  // options are inherited, as in Linux
  end.options = model.options;
  end.send_buffer = model.send_buffer;
  end.receive_buffer = model.receive_buffer;
  end.receive_timeout = model.receive_timeout;
  end.send_timeout = model.send_timeout;
  end.linger = model.linger;
  end.pod = self.area->pod;
  end.address = in_family(end.address, listener.socket().family);
  if (flags & SOCK_NONBLOCK) end.flags.fetch_or(shared::kNonblock);
  socket.accepted.store(1);
  set_descriptor(fd, static_cast<uint32_t>(piece), Role::kAccepted);
  return fd;
}

}  // namespace

long accept_socket(Handle& handle, sockaddr* address, socklen_t* length, int flags) {
  Thread* t = self();
  if (!t) return -ENOBUFS;
  if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) return -EINVAL;
  if (handle.socket().state.load() != SocketState::kListening) return -EINVAL;
  uint32_t family = handle.socket().family;
  for (;;) {
    sockaddr_un name;
    socklen_t n = sizeof name;
    int fd = libc().accept4(handle.fd(), reinterpret_cast<sockaddr*>(&name), &n, flags);
    if (fd < 0) return -errno;
    uint64_t id;
    shared::Offset offset;
    // A stranger who knows the abstract name, or a client that took its piece with it: not a connection.
    long result = identify(*t, name, n, &id, &offset) ? adopt_connection(*t, handle, fd, offset, flags) : -EAGAIN;
    if (result == -EAGAIN) {
      libc().close(fd);
      continue;
    }
    if (result < 0) {
      libc().close(fd);
      return result;
    }
    Handle accepted(fd);
    if (accepted && address) write_address(accepted.socket().ends[0].address, family, address, length);
    return fd;
  }
}

long own_address(Handle& handle, sockaddr* address, socklen_t* length) {
  if (!address || !length) return -EFAULT;
  return write_address(handle.end().address, family_of(handle), address, length);
}

long peer_address(Handle& handle, sockaddr* address, socklen_t* length) {
  if (!handle.connected() || is_over(handle)) return -ENOTCONN;
  if (!address || !length) return -EFAULT;
  return write_address(handle.socket().ends[1 - handle.side()].address, family_of(handle), address, length);
}

}  // namespace godwit::wrapper
