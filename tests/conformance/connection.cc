// socket, bind, listen, accept, connect, names, options.
#include "check.hh"

static void creates_the_lowest_descriptor() {
  int a = socket(AF_INET, SOCK_STREAM, 0), b = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ(b, a + 1);
  close(a);
  CHECK_EQ(socket(AF_INET, SOCK_STREAM, 0), a);
  close(a), close(b);
  CHECK_FAILS(close(b), EBADF);
}
static void refuses_bad_kinds() {
  CHECK_FAILS(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
  CHECK_FAILS(socket(AF_INET, 77, 0), EINVAL);
  CHECK_FAILS(socket(333, SOCK_STREAM, 0), EAFNOSUPPORT);
}
static void flags_of_socket() {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
  CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
  close(fd);
}
static void binds_to_a_free_port() {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a = loopback();
  socklen_t n = sizeof a;
  CHECK_EQ(getsockname(fd, sa(a), &n), 0);
  CHECK_EQ(a.sin_port, 0);
  CHECK_EQ(a.sin_addr.s_addr, 0);
  a = loopback();
  CHECK_EQ(bind(fd, sa(a), sizeof a), 0);
  CHECK_EQ(getsockname(fd, sa(a), &n), 0);
  CHECK(a.sin_port != 0);
  CHECK_EQ(ntohl(a.sin_addr.s_addr), INADDR_LOOPBACK);
  CHECK_FAILS(bind(fd, sa(a), sizeof a), EINVAL);
  close(fd);
}
static void bind_errors() {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a = loopback();
  CHECK_FAILS(bind(fd, sa(a), 3), EINVAL);
  a.sin_family = AF_INET6;
  CHECK_FAILS(bind(fd, sa(a), sizeof a), EAFNOSUPPORT);
  close(fd);
  CHECK_FAILS(bind(fd, sa(a), sizeof a), EBADF);
}
static void a_listened_port_is_taken() {
  Listening l;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_FAILS(bind(fd, sa(l.address), sizeof l.address), EADDRINUSE);
  int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  CHECK_FAILS(bind(fd, sa(l.address), sizeof l.address), EADDRINUSE);
  sockaddr_in any = l.address;
  any.sin_addr.s_addr = 0;
  CHECK_FAILS(bind(fd, sa(any), sizeof any), EADDRINUSE);
  close(fd);
}
static void a_closed_port_is_free_again() {
  sockaddr_in a;
  {
    Listening l;
    a = l.address;
  }
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ(bind(fd, sa(a), sizeof a), 0);
  CHECK_EQ(listen(fd, 1), 0);
  close(fd);
}
static void a_killed_listener_frees_its_port() {
  int p[2];
  CHECK_EQ(pipe(p), 0);
  pid_t child = fork();
  if (child == 0) {
    Listening l;
    CHECK_EQ(write(p[1], &l.address, sizeof l.address), sizeof l.address);
    pause();
  }
  sockaddr_in a;
  CHECK_EQ(read(p[0], &a, sizeof a), sizeof a);
  kill(child, SIGKILL);
  CHECK_EQ(wait_child(child), 128 + SIGKILL);
  int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  CHECK_EQ(bind(fd, sa(a), sizeof a), 0);
  CHECK_EQ(listen(fd, 1), 0);
  close(fd), close(p[0]), close(p[1]);
}
static void listens_without_bind() {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ(listen(fd, 1), 0);
  sockaddr_in a;
  socklen_t n = sizeof a;
  CHECK_EQ(getsockname(fd, sa(a), &n), 0);
  CHECK(a.sin_port != 0);
  CHECK_EQ(a.sin_addr.s_addr, 0);
  CHECK_EQ(listen(fd, 5), 0);
  int accepting = 0;
  socklen_t size = sizeof accepting;
  CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &size), 0);
  CHECK_EQ(accepting, 1);
  close(fd);
}
static void names_agree() {
  Listening l;
  int a = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ(connect(a, sa(l.address), sizeof l.address), 0);
  sockaddr_in from{}, name{}, peer{};
  socklen_t n = sizeof from;
  int b = accept(l.fd, sa(from), &n);
  CHECK_EQ(n, sizeof from);
  n = sizeof name;
  CHECK_EQ(getsockname(a, sa(name), &n), 0);
  CHECK_EQ(memcmp(&name, &from, sizeof name), 0);
  CHECK(name.sin_port != l.address.sin_port);
  CHECK_EQ(getpeername(a, sa(peer), &n), 0);
  CHECK_EQ(memcmp(&peer, &l.address, sizeof peer), 0);
  CHECK_EQ(getsockname(b, sa(name), &n), 0);
  CHECK_EQ(memcmp(&name, &l.address, sizeof peer), 0);
  CHECK_EQ(getpeername(b, sa(name), &n), 0);
  CHECK_EQ(memcmp(&name, &from, sizeof peer), 0);
  n = 4;
  CHECK_EQ(getpeername(b, sa(name), &n), 0);
  CHECK_EQ(n, sizeof(sockaddr_in));
  CHECK_FAILS(getpeername(l.fd, sa(name), &n), ENOTCONN);
  close(a), close(b);
}
static void accept_errors() {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_FAILS(accept(fd, nullptr, nullptr), EINVAL);
  CHECK_FAILS(accept4(fd, nullptr, nullptr, 0x777), EINVAL);
  close(fd);
  Listening l;
  nonblocking(l.fd);
  CHECK_FAILS(accept(l.fd, nullptr, nullptr), EAGAIN);
}
static void accept4_flags() {
  Listening l;
  int a = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ(connect(a, sa(l.address), sizeof l.address), 0);
  int b = accept4(l.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  CHECK(fcntl(b, F_GETFL) & O_NONBLOCK);
  CHECK_EQ(fcntl(b, F_GETFD), FD_CLOEXEC);
  char c;
  CHECK_FAILS(read(b, &c, 1), EAGAIN);
  close(a), close(b);
}
static void connect_refused() {
  sockaddr_in a;
  {
    Listening l;
    a = l.address;
  }
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_FAILS(connect(fd, sa(a), sizeof a), ECONNREFUSED);
  CHECK_FAILS(connect(fd, sa(a), sizeof a), ECONNREFUSED);
  close(fd);
}
static void connect_to_a_bound_socket_is_refused() {
  int l = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a = loopback();
  socklen_t n = sizeof a;
  CHECK_EQ(bind(l, sa(a), n), 0);
  CHECK_EQ(getsockname(l, sa(a), &n), 0);
  CHECK_FAILS(connect(fd, sa(a), n), ECONNREFUSED);
  CHECK_EQ(listen(l, 1), 0);
  CHECK_EQ(connect(fd, sa(a), n), 0);
  close(fd), close(l);
}
static void connect_twice() {
  Listening l;
  int a = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ(connect(a, sa(l.address), sizeof l.address), 0);
  CHECK_FAILS(connect(a, sa(l.address), sizeof l.address), EISCONN);
  CHECK_FAILS(connect(l.fd, sa(l.address), sizeof l.address), EISCONN);
  CHECK_FAILS(listen(a, 1), EINVAL);
  close(a);
}
static void connects_without_blocking() {
  Listening l;
  int a = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  CHECK_FAILS(connect(a, sa(l.address), sizeof l.address), EINPROGRESS);
  CHECK_EQ(wait_for(a, POLLOUT), POLLOUT);
  int error = 1;
  socklen_t n = sizeof error;
  CHECK_EQ(getsockopt(a, SOL_SOCKET, SO_ERROR, &error, &n), 0);
  CHECK_EQ(error, 0);
  CHECK_EQ(connect(a, sa(l.address), sizeof l.address), 0);
  CHECK_FAILS(connect(a, sa(l.address), sizeof l.address), EISCONN);
  close(a);
}
static void a_refusal_is_told_by_so_error() {
  sockaddr_in to;
  {
    Listening l;
    to = l.address;
  }
  int a = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  errno = 0;
  int r = connect(a, sa(to), sizeof to);
  if (r == -1 && errno == EINPROGRESS) {
    CHECK(wait_for(a, POLLOUT) & POLLOUT);
    int error = 0;
    socklen_t n = sizeof error;
    CHECK_EQ(getsockopt(a, SOL_SOCKET, SO_ERROR, &error, &n), 0);
    CHECK_EQ(error, ECONNREFUSED);
  } else {
    CHECK_EQ(errno, ECONNREFUSED);
  }
  close(a);
}
static void source_port_is_as_bound() {
  Listening l;
  int a = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in own = loopback(), from{};
  socklen_t n = sizeof own;
  CHECK_EQ(bind(a, sa(own), n), 0);
  CHECK_EQ(getsockname(a, sa(own), &n), 0);
  CHECK_EQ(connect(a, sa(l.address), n), 0);
  int b = accept(l.fd, sa(from), &n);
  CHECK_EQ(from.sin_port, own.sin_port);
  CHECK_EQ(write(a, "x", 1), 1);
  char c;
  CHECK_EQ(read(b, &c, 1), 1);
  close(a), close(b);
}
static void both_families() {
  int l = socket(AF_INET6, SOCK_STREAM, 0), off = 0;
  setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  socklen_t n = sizeof any;
  if (bind(l, sa(any), n) != 0) return;  // no IPv6 here
  CHECK_EQ(listen(l, 4), 0);
  CHECK_EQ(getsockname(l, sa(any), &n), 0);
  int a = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to = loopback(ntohs(any.sin6_port));
  CHECK_EQ(connect(a, sa(to), sizeof to), 0);
  sockaddr_in6 from{};
  n = sizeof from;
  int b = accept(l, sa(from), &n);
  CHECK_EQ(n, sizeof from);
  CHECK_EQ(from.sin6_family, AF_INET6);
  CHECK(IN6_IS_ADDR_V4MAPPED(&from.sin6_addr));
  int six = socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 to6{};
  to6.sin6_family = AF_INET6;
  to6.sin6_port = any.sin6_port;
  to6.sin6_addr = in6addr_loopback;
  CHECK_EQ(connect(six, sa(to6), sizeof to6), 0);
  n = sizeof from;
  int c = accept(l, sa(from), &n);
  CHECK(IN6_IS_ADDR_LOOPBACK(&from.sin6_addr));
  close(a), close(b), close(six), close(c), close(l);
}
static void one_port_for_each_family() {
  int four = socket(AF_INET, SOCK_STREAM, 0), six = socket(AF_INET6, SOCK_STREAM, 0), on = 1;
  sockaddr_in any{};
  any.sin_family = AF_INET;
  socklen_t n = sizeof any;
  CHECK_EQ(bind(four, sa(any), n), 0);
  CHECK_EQ(getsockname(four, sa(any), &n), 0);
  CHECK_EQ(listen(four, 1), 0);
  sockaddr_in6 any6{};
  any6.sin6_family = AF_INET6;
  any6.sin6_port = any.sin_port;
  CHECK_FAILS(bind(six, sa(any6), sizeof any6), EADDRINUSE);
  setsockopt(six, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  CHECK_EQ(bind(six, sa(any6), sizeof any6), 0);
  CHECK_EQ(listen(six, 1), 0);
  close(four), close(six);
}
static int int_option(int fd, int level, int name) {
  int value = -12345;
  socklen_t n = sizeof value;
  CHECK_EQ(getsockopt(fd, level, name, &value, &n), 0);
  CHECK_EQ(n, sizeof value);
  return value;
}
static void options() {
  int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1, zero = 0;
  CHECK_EQ(int_option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
  CHECK_EQ(int_option(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
  CHECK_EQ(int_option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
  CHECK_EQ(int_option(fd, SOL_SOCKET, SO_ERROR), 0);
  CHECK_EQ(int_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
  for (auto [level, name] : {std::pair{SOL_SOCKET, SO_REUSEADDR}, {SOL_SOCKET, SO_KEEPALIVE}, {IPPROTO_TCP, TCP_NODELAY}}) {
    CHECK_EQ(int_option(fd, level, name), 0);
    CHECK_EQ(setsockopt(fd, level, name, &one, sizeof one), 0);
    CHECK_EQ(int_option(fd, level, name), 1);
    CHECK_EQ(setsockopt(fd, level, name, &zero, sizeof zero), 0);
    CHECK_EQ(int_option(fd, level, name), 0);
    CHECK_FAILS(setsockopt(fd, level, name, &one, 1), EINVAL);
  }
  int size = 50000;
  CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
  CHECK_EQ(int_option(fd, SOL_SOCKET, SO_RCVBUF), 100000);
  CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
  CHECK_EQ(int_option(fd, SOL_SOCKET, SO_SNDBUF), 100000);
  linger l{}, want{1, 7};
  socklen_t n = sizeof l;
  CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &n), 0);
  CHECK_EQ(l.l_onoff, 0);
  CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &want, sizeof want), 0);
  CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &n), 0);
  CHECK_EQ(l.l_onoff, 1);
  CHECK_EQ(l.l_linger, 7);
  timeval t{3, 0}, back{};
  n = sizeof back;
  CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t), 0);
  CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &back, &n), 0);
  CHECK_EQ(back.tv_sec, 3);
  CHECK_FAILS(setsockopt(fd, SOL_SOCKET, 9999, &one, sizeof one), ENOPROTOOPT);
  CHECK_FAILS(getsockopt(fd, IPPROTO_TCP, 9999, &one, &n), ENOPROTOOPT);
  int idle = 100;
  CHECK_EQ(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle), 0);
  close(fd);
}
static void errno_survives_success() {
  errno = 4711;
  Pair p;
  CHECK_EQ(errno, 4711);
  char c = 'x';
  CHECK_EQ(send(p.a, &c, 1, 0), 1);
  CHECK_EQ(recv(p.b, &c, 1, 0), 1);
  wait_for(p.a, POLLOUT);
  CHECK_EQ(errno, 4711);
}
static void is_a_socket_to_fstat() {
  Pair p;
  struct stat st;
  CHECK_EQ(fstat(p.a, &st), 0);
  CHECK(S_ISSOCK(st.st_mode));
  CHECK_FAILS(lseek(p.a, 0, SEEK_SET), ESPIPE);
  char c;
  CHECK_FAILS(pread(p.a, &c, 1, 0), ESPIPE);
}
static void many_connections() {
  Listening l(128);
  int a[200], b[200];
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 200; ++i) {
      a[i] = socket(AF_INET, SOCK_STREAM, 0);
      CHECK_EQ(connect(a[i], sa(l.address), sizeof l.address), 0);
      b[i] = accept(l.fd, nullptr, nullptr);
      CHECK(b[i] >= 0);
      CHECK_EQ(write(a[i], &i, sizeof i), sizeof i);
    }
    for (int i = 0; i < 200; ++i) {
      int got = -1;
      CHECK_EQ(read(b[i], &got, sizeof got), sizeof got);
      CHECK_EQ(got, i);
      close(a[i]);
      CHECK_EQ(read(b[i], &got, sizeof got), 0);
      close(b[i]);
    }
  }
}
static void the_backlog_holds_connections() {
  Listening l(8);
  int a[8];
  for (int& fd : a) {
    fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(connect(fd, sa(l.address), sizeof l.address), 0);
    CHECK_EQ(write(fd, "early", 5), 5);
  }
  for (int fd : a) {
    char text[8];
    int b = accept(l.fd, nullptr, nullptr);
    CHECK_EQ(read(b, text, sizeof text), 5);
    close(b), close(fd);
  }
}
static void a_client_that_left_is_still_accepted() {
  Listening l;
  int a = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ(connect(a, sa(l.address), sizeof l.address), 0);
  CHECK_EQ(write(a, "bye", 3), 3);
  close(a);
  int b = accept(l.fd, nullptr, nullptr);
  char text[8];
  CHECK_EQ(read(b, text, sizeof text), 3);
  CHECK_EQ(read(b, text, sizeof text), 0);
  close(b);
}

int main() {
  static const Case cases[] = {
#define C(f) {#f, f}
      C(creates_the_lowest_descriptor), C(refuses_bad_kinds), C(flags_of_socket), C(binds_to_a_free_port), C(bind_errors),
      C(a_listened_port_is_taken), C(a_closed_port_is_free_again), C(a_killed_listener_frees_its_port),
      C(listens_without_bind), C(names_agree), C(accept_errors), C(accept4_flags), C(connect_refused),
      C(connect_to_a_bound_socket_is_refused), C(connect_twice), C(connects_without_blocking),
      C(a_refusal_is_told_by_so_error), C(source_port_is_as_bound), C(both_families), C(one_port_for_each_family),
      C(options), C(errno_survives_success), C(is_a_socket_to_fstat), C(many_connections),
      C(the_backlog_holds_connections), C(a_client_that_left_is_still_accepted)};
  return run_all(cases);
}
