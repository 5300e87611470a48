// What conformance programs share: checks, and pairs of connected TCP sockets. Plain POSIX: nothing here knows
// whether it runs bare or wrapped.
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <string>

inline int failures = 0;
inline const char* current = "";

#define CHECK(condition)                                                                        \
  do {                                                                                          \
    if (!(condition)) {                                                                         \
      printf("%s:%d: %s: failed: %s (errno %s)\n", __FILE__, __LINE__, current, #condition,     \
             strerrorname_np(errno) ? strerrorname_np(errno) : "0");                            \
      ++failures;                                                                               \
    }                                                                                           \
  } while (0)
#define CHECK_EQ(a, b)                                                                          \
  do {                                                                                          \
    long long left = (a), right = (b);                                                          \
    if (left != right) {                                                                        \
      printf("%s:%d: %s: %s is %lld, not %lld (errno %s)\n", __FILE__, __LINE__, current, #a,   \
             left, right, strerrorname_np(errno) ? strerrorname_np(errno) : "0");               \
      ++failures;                                                                               \
    }                                                                                           \
  } while (0)
#define CHECK_FAILS(call, error)                                                                \
  do {                                                                                          \
    errno = 0;                                                                                  \
    long long result = (call);                                                                  \
    if (result != -1 || errno != (error)) {                                                     \
      printf("%s:%d: %s: %s gave %lld %s, not -1 %s\n", __FILE__, __LINE__, current, #call,     \
             result, strerrorname_np(errno) ? strerrorname_np(errno) : "0", #error);            \
      ++failures;                                                                               \
    }                                                                                           \
  } while (0)

inline sockaddr_in loopback(uint16_t port = 0) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}
inline sockaddr* sa(sockaddr_in& a) { return reinterpret_cast<sockaddr*>(&a); }
inline sockaddr* sa(sockaddr_in6& a) { return reinterpret_cast<sockaddr*>(&a); }

struct Listening {
  int fd;
  sockaddr_in address;
  explicit Listening(int backlog = 16) : fd(socket(AF_INET, SOCK_STREAM, 0)), address(loopback()) {
    socklen_t length = sizeof address;
    CHECK_EQ(bind(fd, sa(address), length), 0);
    CHECK_EQ(listen(fd, backlog), 0);
    CHECK_EQ(getsockname(fd, sa(address), &length), 0);
  }
  ~Listening() { close(fd); }
};

/// a: the client's socket, b: the server's.
struct Pair {
  int a, b;
  Pair() {
    Listening l;
    a = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(connect(a, sa(l.address), sizeof l.address), 0);
    b = accept(l.fd, nullptr, nullptr);
    CHECK(b >= 0);
    int one = 1;
    setsockopt(a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(b, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  ~Pair() {
    if (a >= 0) close(a);
    if (b >= 0) close(b);
  }
  void close_a() { close(a), a = -1; }
  void close_b() { close(b), b = -1; }
};

inline void nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }
inline void reset_on_close(int fd) {
  linger l{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}
/// Waits for events with a limit, so that a lost wake-up is a failure and not a hang.
inline short wait_for(int fd, short events, int ms = 5000) {
  pollfd p{fd, events, 0};
  poll(&p, 1, ms);
  return p.revents;
}
inline int64_t now_ms() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
inline int wait_child(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

struct Case {
  const char* name;
  void (*run)();
};
template <size_t N>
int run_all(const Case (&cases)[N]) {
  setvbuf(stdout, nullptr, _IOLBF, 0);
  signal(SIGPIPE, SIG_IGN);
  for (const Case& c : cases) {
    current = c.name;
    if (getenv("CASES")) printf("%s\n", c.name);
    c.run();
  }
  printf("%zu cases, %d failures\n", N, failures);
  return failures ? 1 : 0;
}
