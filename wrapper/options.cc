#include "wrapper/options.hh"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "wrapper/rendezvous.hh"
#include "wrapper/stream.hh"

namespace godwit::wrapper {
namespace {

using shared::End;

// Yes-or-no options; the bit in End::options is the row's index.
struct Flag {
  int level, name;
};
constexpr Flag kFlags[] = {
    {SOL_SOCKET, SO_REUSEADDR},    {SOL_SOCKET, SO_KEEPALIVE}, {SOL_SOCKET, SO_BROADCAST},
    {SOL_SOCKET, SO_OOBINLINE},    {SOL_SOCKET, SO_REUSEPORT}, {SOL_SOCKET, SO_DONTROUTE},
    {SOL_SOCKET, SO_TIMESTAMP},    {SOL_SOCKET, SO_ZEROCOPY},  {IPPROTO_TCP, TCP_NODELAY},
    {IPPROTO_TCP, TCP_CORK},       {IPPROTO_TCP, TCP_QUICKACK}, {IPPROTO_TCP, TCP_DEFER_ACCEPT},
    {IPPROTO_TCP, TCP_FASTOPEN},   {IPPROTO_IPV6, IPV6_V6ONLY}, {IPPROTO_IP, IP_FREEBIND},
    {IPPROTO_IP, IP_RECVERR},      {IPPROTO_TCP, TCP_FASTOPEN_CONNECT},
};

// Options with a number that is answered as a fresh Linux socket would; a value set is not kept yet.
struct Number {
  int level, name, value;
};
constexpr Number kNumbers[] = {
    {SOL_SOCKET, SO_PRIORITY, 0},       {SOL_SOCKET, SO_MARK, 0},          {SOL_SOCKET, SO_RCVLOWAT, 1},
    {SOL_SOCKET, SO_SNDLOWAT, 1},       {SOL_SOCKET, SO_BUSY_POLL, 0},     {SOL_SOCKET, SO_INCOMING_CPU, -1},
    {IPPROTO_TCP, TCP_KEEPIDLE, 7200},  {IPPROTO_TCP, TCP_KEEPINTVL, 75},  {IPPROTO_TCP, TCP_KEEPCNT, 9},
    {IPPROTO_TCP, TCP_SYNCNT, 6},       {IPPROTO_TCP, TCP_LINGER2, 60},    {IPPROTO_TCP, TCP_MAXSEG, 32768},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, 0}, {IPPROTO_TCP, TCP_WINDOW_CLAMP, 0}, {IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0},
    {IPPROTO_IP, IP_TOS, 0},            {IPPROTO_IP, IP_TTL, 64},          {IPPROTO_IP, IP_MTU_DISCOVER, 1},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0}, {IPPROTO_IPV6, IPV6_TCLASS, 0}, {IPPROTO_IPV6, IPV6_UNICAST_HOPS, 64},
};

template <class Row, size_t N>
int row_of(const Row (&rows)[N], int level, int name) {
  for (size_t i = 0; i < N; ++i)
    if (rows[i].level == level && rows[i].name == name) return static_cast<int>(i);
  return -1;
}

long give(const void* from, socklen_t size, void* value, socklen_t* length) {
  if (!value || !length) return -EFAULT;
  if (static_cast<int>(*length) < 0) return -EINVAL;
  if (*length > size) *length = size;
  memcpy(value, from, *length);
  return 0;
}
long give_int(int n, void* value, socklen_t* length) { return give(&n, sizeof n, value, length); }

uint64_t nanoseconds(const timeval& t) {
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_usec) * 1000;
}
timeval seconds(uint64_t ns) {
  return {static_cast<time_t>(ns / 1'000'000'000), static_cast<suseconds_t>(ns % 1'000'000'000 / 1000)};
}

long get_socket_level(Handle& handle, int name, void* value, socklen_t* length) {
  End& end = handle.end();
  switch (name) {
    case SO_ERROR: return give_int(take_error(handle.socket(), handle.side()), value, length);
    case SO_TYPE: return give_int(SOCK_STREAM, value, length);
    case SO_DOMAIN: return give_int(static_cast<int>(family_of(handle)), value, length);
    case SO_PROTOCOL: return give_int(IPPROTO_TCP, value, length);
    case SO_ACCEPTCONN:
      return give_int(handle.socket().state.load() == shared::SocketState::kListening, value, length);
    case SO_SNDBUF: return give_int(end.send_buffer ? static_cast<int>(end.send_buffer) : 2626560, value, length);
    case SO_RCVBUF: return give_int(end.receive_buffer ? static_cast<int>(end.receive_buffer) : 131072, value, length);
    case SO_LINGER: {
      linger l{end.linger >= 0, end.linger >= 0 ? end.linger : 0};
      return give(&l, sizeof l, value, length);
    }
    case SO_RCVTIMEO:
    case SO_SNDTIMEO: {
      timeval t = seconds(name == SO_RCVTIMEO ? end.receive_timeout : end.send_timeout);
      return give(&t, sizeof t, value, length);
    }
    default: return -ENOPROTOOPT;
  }
}

long set_timeout(uint64_t& field, const void* value, socklen_t length) {
  timeval t;
  if (length < sizeof t) return -EINVAL;
  memcpy(&t, value, sizeof t);
  if (t.tv_usec < 0 || t.tv_usec >= 1'000'000) return -EDOM;
  field = t.tv_sec < 0 ? 1 : nanoseconds(t);
  return 0;
}

// Linux doubles what is asked for and has a least size.
uint32_t buffer_size(int wanted, uint32_t least) {
  uint32_t doubled = wanted < 0 ? least : wanted > 212992 ? 425984 : static_cast<uint32_t>(wanted) * 2;
  return doubled < least ? least : doubled;
}

long set_socket_level(End& end, int name, const void* value, socklen_t length) {
  int n = 0;
  if (length >= sizeof n) memcpy(&n, value, sizeof n);
  switch (name) {
    case SO_LINGER: {
      linger l;
      if (length < sizeof l) return -EINVAL;
      memcpy(&l, value, sizeof l);
      end.linger = l.l_onoff ? l.l_linger : -1;
      return 0;
    }
    case SO_RCVTIMEO: return set_timeout(end.receive_timeout, value, length);
    case SO_SNDTIMEO: return set_timeout(end.send_timeout, value, length);
    case SO_SNDBUF:
    case SO_RCVBUF:
      if (length < sizeof n) return -EINVAL;
      if (name == SO_SNDBUF) end.send_buffer = buffer_size(n, 4608);
      else end.receive_buffer = buffer_size(n, 2304);
      return 0;
    case SO_ERROR:
    case SO_TYPE:
    case SO_DOMAIN:
    case SO_PROTOCOL:
    case SO_ACCEPTCONN: return -ENOPROTOOPT;
    default: return -ENOPROTOOPT;
  }
}

long tcp_info_of(Handle& handle, void* value, socklen_t* length) {
  tcp_info info{};
  info.tcpi_state = handle.connected() ? TCP_ESTABLISHED
                    : handle.socket().state.load() == shared::SocketState::kListening ? TCP_LISTEN : TCP_CLOSE;
  info.tcpi_snd_mss = info.tcpi_rcv_mss = 32768;
  return give(&info, sizeof info, value, length);
}

}  // namespace

long get_option(Handle& handle, int level, int name, void* value, socklen_t* length) {
  if (int i = row_of(kFlags, level, name); i >= 0)
    return give_int(handle.end().options >> i & 1, value, length);
  if (int i = row_of(kNumbers, level, name); i >= 0) return give_int(kNumbers[i].value, value, length);
  if (level == SOL_SOCKET) return get_socket_level(handle, name, value, length);
  if (level == IPPROTO_TCP && name == TCP_INFO) return tcp_info_of(handle, value, length);
  if (level == IPPROTO_TCP && name == TCP_CONGESTION) return give("cubic", 6, value, length);
  return level == IPPROTO_TCP || level == IPPROTO_IP || level == IPPROTO_IPV6 ? -ENOPROTOOPT : -EOPNOTSUPP;
}

long set_option(Handle& handle, int level, int name, const void* value, socklen_t length) {
  End& end = handle.end();
  int i = row_of(kFlags, level, name);
  if (i >= 0 || row_of(kNumbers, level, name) >= 0) {
    int n;
    if (!value) return -EFAULT;
    if (length < sizeof n) return -EINVAL;
    memcpy(&n, value, sizeof n);
    if (i >= 0) end.options = n ? end.options | 1u << i : end.options & ~(1u << i);
    return 0;
  }
  if (!value && length) return -EFAULT;
  if (level == SOL_SOCKET) return set_socket_level(end, name, value, length);
  if (level == IPPROTO_TCP && name == TCP_CONGESTION) return 0;
  return level == IPPROTO_TCP || level == IPPROTO_IP || level == IPPROTO_IPV6 ? -ENOPROTOOPT : -EOPNOTSUPP;
}

bool v6_only(const End& end) { return end.options >> row_of(kFlags, IPPROTO_IPV6, IPV6_V6ONLY) & 1; }

void apply_options(End& end, int fd) {
  for (size_t i = 0; i < sizeof kFlags / sizeof *kFlags; ++i) {
    int one = 1;
    if (end.options >> i & 1) libc().setsockopt(fd, kFlags[i].level, kFlags[i].name, &one, sizeof one);
  }
  for (auto [name, ns] : {std::pair{SO_RCVTIMEO, end.receive_timeout}, std::pair{SO_SNDTIMEO, end.send_timeout}}) {
    timeval t = seconds(ns);
    if (ns) libc().setsockopt(fd, SOL_SOCKET, name, &t, sizeof t);
  }
  if (end.linger >= 0) {
    linger l{1, end.linger};
    libc().setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
  }
}

long control_socket(Handle& handle, unsigned long request, void* argument) {
  int* number = static_cast<int*>(argument);
  bool connected = handle.connected();
  switch (request) {
    case FIONREAD:
      *number = connected ? static_cast<int>(shared::readable(handle.incoming())) : 0;
      return 0;
    case SIOCOUTQ:
      *number = connected ? static_cast<int>(shared::readable(handle.outgoing())) : 0;
      return 0;
    case SIOCATMARK: *number = 0; return 0;
    case FIONBIO:
      if (libc().ioctl(handle.fd(), FIONBIO, argument) != 0) return -errno;
      if (*number) handle.end().flags.fetch_or(shared::kNonblock);
      else handle.end().flags.fetch_and(~static_cast<uint32_t>(shared::kNonblock));
      return 0;
    default: return -ENOSYS;
  }
}

}  // namespace godwit::wrapper
