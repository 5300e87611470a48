// poll, select and epoll, with real descriptors beside.
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/select.h>

#include <algorithm>
#include <vector>

#include "check.hh"

static void poll_says_what_is_ready() {
  Pair p;
  CHECK_EQ(wait_for(p.a, POLLIN | POLLOUT, 0), POLLOUT);
  CHECK_EQ(write(p.b, "x", 1), 1);
  CHECK_EQ(wait_for(p.a, POLLIN), POLLIN);
  CHECK_EQ(wait_for(p.a, POLLIN | POLLOUT | POLLRDHUP | POLLPRI), POLLIN | POLLOUT);
  CHECK_EQ(wait_for(p.a, POLLRDNORM | POLLWRNORM), POLLRDNORM | POLLWRNORM);
  shutdown(p.b, SHUT_WR);
  CHECK_EQ(wait_for(p.a, POLLIN | POLLRDHUP), POLLIN | POLLRDHUP);
  shutdown(p.a, SHUT_WR);
  CHECK_EQ(wait_for(p.a, POLLIN | POLLRDHUP), POLLIN | POLLRDHUP | POLLHUP);
  CHECK_EQ(wait_for(p.a, 0), POLLHUP);
}
static void poll_times_out() {
  Pair p;
  int64_t begin = now_ms();
  CHECK_EQ(wait_for(p.a, POLLIN, 30), 0);
  CHECK(now_ms() - begin >= 29);
}
static void poll_of_a_fresh_socket() {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ(wait_for(fd, POLLIN | POLLOUT, 0), POLLOUT | POLLHUP);
  close(fd);
  CHECK_EQ(wait_for(fd, POLLIN, 0), POLLNVAL);
}
static void poll_of_a_listener() {
  Listening l;
  CHECK_EQ(wait_for(l.fd, POLLIN, 0), 0);
  int a = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ(connect(a, sa(l.address), sizeof l.address), 0);
  CHECK_EQ(wait_for(l.fd, POLLIN), POLLIN);
  close(a);
}
struct Later {
  int fd;
  int kind;  // 0 write, 1 shut down, 2 close
  int us;
};
static void* act(void* p) {
  Later* l = static_cast<Later*>(p);
  usleep(static_cast<useconds_t>(l->us));
  if (l->kind == 0) CHECK_EQ(write(l->fd, "x", 1), 1);
  if (l->kind == 1) shutdown(l->fd, SHUT_WR);
  if (l->kind == 2) close(l->fd);
  return nullptr;
}
static void sleepers_are_woken() {
  for (int us : {0, 50, 5000, 30000}) {
    for (int how = 0; how < 4; ++how) {  // read, poll, select, epoll
      Pair p;
      Later later{p.b, 0, us};
      pthread_t t;
      pthread_create(&t, nullptr, act, &later);
      char c;
      if (how == 1) CHECK_EQ(wait_for(p.a, POLLIN), POLLIN);
      if (how == 2) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(p.a, &set);
        timeval limit{5, 0};
        CHECK_EQ(select(p.a + 1, &set, nullptr, nullptr, &limit), 1);
        CHECK(FD_ISSET(p.a, &set));
      }
      if (how == 3) {
        int e = epoll_create1(0);
        epoll_event event{EPOLLIN, {.u64 = 5}}, got;
        CHECK_EQ(epoll_ctl(e, EPOLL_CTL_ADD, p.a, &event), 0);
        CHECK_EQ(epoll_wait(e, &got, 1, 5000), 1);
        CHECK_EQ(got.data.u64, 5);
        CHECK_EQ(got.events, EPOLLIN);
        close(e);
      }
      CHECK_EQ(read(p.a, &c, 1), 1);
      pthread_join(t, nullptr);
    }
  }
}
static void a_kill_wakes_every_sleeper() {
  for (int how = 0; how < 4; ++how) {
    Pair p;
    pid_t child = fork();
    if (child == 0) {
      close(p.a);
      usleep(20000);
      raise(SIGKILL);
    }
    p.close_b();
    char c;
    if (how == 1) CHECK_EQ(wait_for(p.a, POLLIN | POLLRDHUP), POLLIN | POLLRDHUP);
    if (how == 2) {
      fd_set set;
      FD_ZERO(&set);
      FD_SET(p.a, &set);
      CHECK_EQ(select(p.a + 1, &set, nullptr, nullptr, nullptr), 1);
    }
    if (how == 3) {
      int e = epoll_create1(0);
      epoll_event event{EPOLLIN | EPOLLRDHUP, {}}, got;
      epoll_ctl(e, EPOLL_CTL_ADD, p.a, &event);
      CHECK_EQ(epoll_wait(e, &got, 1, 5000), 1);
      CHECK_EQ(got.events, EPOLLIN | EPOLLRDHUP);
      close(e);
    }
    CHECK_EQ(read(p.a, &c, 1), 0);
    wait_child(child);
  }
}
static void mixed_with_pipes() {
  Pair p;
  int pipe_ends[2];
  CHECK_EQ(pipe(pipe_ends), 0);
  pollfd set[3] = {{p.a, POLLIN, 0}, {pipe_ends[0], POLLIN, 0}, {-1, POLLIN, 7}};
  CHECK_EQ(poll(set, 3, 20), 0);
  Later later{pipe_ends[1], 0, 20000};
  pthread_t t;
  pthread_create(&t, nullptr, act, &later);
  CHECK_EQ(poll(set, 3, 5000), 1);
  CHECK_EQ(set[0].revents, 0);
  CHECK_EQ(set[1].revents, POLLIN);
  CHECK_EQ(set[2].revents, 0);
  pthread_join(t, nullptr);
  CHECK_EQ(write(p.b, "x", 1), 1);
  CHECK_EQ(poll(set, 3, 5000), 2);
  CHECK_EQ(set[0].revents, POLLIN);
  fd_set in, out;
  FD_ZERO(&in);
  FD_ZERO(&out);
  FD_SET(p.a, &in), FD_SET(pipe_ends[0], &in), FD_SET(p.a, &out), FD_SET(p.b, &in);
  CHECK_EQ(select(std::max(p.b, pipe_ends[0]) + 1, &in, &out, nullptr, nullptr), 3);
  CHECK(FD_ISSET(p.a, &in) && FD_ISSET(pipe_ends[0], &in) && FD_ISSET(p.a, &out) && !FD_ISSET(p.b, &in));
  close(pipe_ends[0]), close(pipe_ends[1]);
}
static void select_errors_and_rest() {
  Pair p;
  fd_set set;
  FD_ZERO(&set);
  FD_SET(p.a, &set);
  timeval t{0, 30000};
  CHECK_EQ(select(p.a + 1, &set, nullptr, nullptr, &t), 0);
  CHECK(!FD_ISSET(p.a, &set));
  CHECK_EQ(t.tv_sec, 0);
  CHECK_EQ(t.tv_usec, 0);
  FD_SET(p.a, &set);
  int closed = dup(p.a);
  close(closed);
  FD_SET(closed, &set);
  CHECK_FAILS(select(closed + 1, &set, nullptr, nullptr, nullptr), EBADF);
  timespec bad{0, 2000000000};
  FD_ZERO(&set);
  FD_SET(p.a, &set);
  CHECK_FAILS(pselect(p.a + 1, &set, nullptr, nullptr, &bad, nullptr), EINVAL);
}
static int add(int e, int fd, uint32_t events, uint64_t data) {
  epoll_event event{events, {.u64 = data}};
  return epoll_ctl(e, EPOLL_CTL_ADD, fd, &event);
}
static int modify(int e, int fd, uint32_t events, uint64_t data) {
  epoll_event event{events, {.u64 = data}};
  return epoll_ctl(e, EPOLL_CTL_MOD, fd, &event);
}
static void epoll_errors() {
  Pair p;
  int e = epoll_create1(EPOLL_CLOEXEC);
  CHECK_EQ(fcntl(e, F_GETFD), FD_CLOEXEC);
  epoll_event event{EPOLLIN, {}};
  CHECK_FAILS(epoll_ctl(e, EPOLL_CTL_MOD, p.a, &event), ENOENT);
  CHECK_FAILS(epoll_ctl(e, EPOLL_CTL_DEL, p.a, &event), ENOENT);
  CHECK_EQ(add(e, p.a, EPOLLIN, 0), 0);
  CHECK_FAILS(add(e, p.a, EPOLLIN, 0), EEXIST);
  CHECK_FAILS(epoll_ctl(e, 77, p.a, &event), EINVAL);
  CHECK_FAILS(add(p.a, p.b, EPOLLIN, 0), EINVAL);
  CHECK_FAILS(add(999, p.b, EPOLLIN, 0), EBADF);
  CHECK_FAILS(epoll_wait(e, &event, 0, 0), EINVAL);
  CHECK_FAILS(epoll_wait(p.a, &event, 1, 0), EINVAL);
  CHECK_EQ(epoll_ctl(e, EPOLL_CTL_DEL, p.a, nullptr), 0);
  CHECK_EQ(add(e, p.a, EPOLLIN, 0), 0);
  close(e);
}
static void level_edge_oneshot() {
  Pair p;
  char c;
  epoll_event got;
  int level = epoll_create1(0), edge = epoll_create1(0), once = epoll_create1(0);
  CHECK_EQ(add(level, p.a, EPOLLIN, 1), 0);
  CHECK_EQ(add(edge, p.a, EPOLLIN | EPOLLET, 2), 0);
  CHECK_EQ(add(once, p.a, EPOLLIN | EPOLLONESHOT, 3), 0);
  for (int e : {level, edge, once}) CHECK_EQ(epoll_wait(e, &got, 1, 0), 0);
  CHECK_EQ(write(p.b, "xy", 2), 2);
  CHECK_EQ(wait_for(p.a, POLLIN), POLLIN);
  for (int e : {level, edge, once}) CHECK_EQ(epoll_wait(e, &got, 1, 0), 1);
  CHECK_EQ(got.data.u64, 3);
  CHECK_EQ(epoll_wait(level, &got, 1, 0), 1);
  CHECK_EQ(epoll_wait(edge, &got, 1, 0), 0);
  CHECK_EQ(epoll_wait(once, &got, 1, 0), 0);
  CHECK_EQ(read(p.a, &c, 1), 1);
  CHECK_EQ(epoll_wait(level, &got, 1, 0), 1);
  CHECK_EQ(epoll_wait(edge, &got, 1, 0), 0);
  CHECK_EQ(write(p.b, "z", 1), 1);
  CHECK_EQ(epoll_wait(edge, &got, 1, 1000), 1);
  CHECK_EQ(epoll_wait(once, &got, 1, 0), 0);
  CHECK_EQ(modify(once, p.a, EPOLLIN | EPOLLONESHOT, 4), 0);
  CHECK_EQ(epoll_wait(once, &got, 1, 0), 1);
  CHECK_EQ(got.data.u64, 4);
  CHECK_EQ(modify(edge, p.a, EPOLLIN | EPOLLOUT | EPOLLET, 5), 0);
  CHECK_EQ(epoll_wait(edge, &got, 1, 0), 1);
  CHECK_EQ(got.events, EPOLLIN | EPOLLOUT);
  CHECK_EQ(epoll_ctl(level, EPOLL_CTL_DEL, p.a, nullptr), 0);
  CHECK_EQ(epoll_wait(level, &got, 1, 0), 0);
  close(level), close(edge), close(once);
}
static void epoll_with_pipe_and_listener() {
  Listening l;
  Pair p;
  int e = epoll_create1(0), pipe_ends[2];
  CHECK_EQ(pipe(pipe_ends), 0);
  CHECK_EQ(add(e, l.fd, EPOLLIN, 10), 0);
  CHECK_EQ(add(e, p.a, EPOLLIN, 11), 0);
  CHECK_EQ(add(e, pipe_ends[0], EPOLLIN, 12), 0);
  epoll_event got[8];
  CHECK_EQ(epoll_wait(e, got, 8, 10), 0);
  int c = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ(connect(c, sa(l.address), sizeof l.address), 0);
  CHECK_EQ(epoll_wait(e, got, 8, 5000), 1);
  CHECK_EQ(got[0].data.u64, 10);
  CHECK_EQ(write(pipe_ends[1], "x", 1), 1);
  CHECK_EQ(write(p.b, "x", 1), 1);
  CHECK_EQ(wait_for(p.a, POLLIN), POLLIN);
  uint64_t seen = 0;
  for (int round = 0; round < 1000 && seen != 7; ++round) {
    int n = epoll_wait(e, got, 8, 1000);
    for (int i = 0; i < n; ++i) seen |= 1u << (got[i].data.u64 - 10);
  }
  CHECK_EQ(seen, 7);
  close(c), close(e), close(pipe_ends[0]), close(pipe_ends[1]);
}
static void real_events_are_not_starved() {
  Pair p;
  int e = epoll_create1(0), pipe_ends[2];
  CHECK_EQ(pipe(pipe_ends), 0);
  CHECK_EQ(add(e, p.a, EPOLLIN, 1), 0);
  CHECK_EQ(add(e, pipe_ends[0], EPOLLIN, 2), 0);
  CHECK_EQ(write(p.b, "always", 6), 6);
  CHECK_EQ(write(pipe_ends[1], "x", 1), 1);
  bool seen = false;
  int64_t end = now_ms() + 2000;
  while (!seen && now_ms() < end) {
    epoll_event got[1];
    CHECK_EQ(epoll_wait(e, got, 1, -1), 1);
    seen = got[0].data.u64 == 2;
  }
  CHECK(seen);
  close(e), close(pipe_ends[0]), close(pipe_ends[1]);
}
static void closing_takes_out_of_the_set() {
  int e = epoll_create1(0);
  epoll_event got;
  {
    Pair p;
    CHECK_EQ(add(e, p.a, EPOLLIN | EPOLLOUT, 1), 0);
    CHECK_EQ(epoll_wait(e, &got, 1, 0), 1);
  }
  CHECK_EQ(epoll_wait(e, &got, 1, 0), 0);
  Pair p;  // the same numbers, other sockets
  CHECK_EQ(epoll_wait(e, &got, 1, 0), 0);
  CHECK_EQ(add(e, p.a, EPOLLIN, 2), 0);
  CHECK_EQ(write(p.b, "x", 1), 1);
  CHECK_EQ(epoll_wait(e, &got, 1, 1000), 1);
  CHECK_EQ(got.data.u64, 2);
  close(e);
}
static void hang_up_is_told_without_being_asked() {
  Pair p;
  int e = epoll_create1(0);
  CHECK_EQ(add(e, p.a, 0, 1), 0);
  epoll_event got;
  shutdown(p.a, SHUT_WR);
  CHECK_EQ(epoll_wait(e, &got, 1, 0), 0);
  shutdown(p.b, SHUT_WR);
  CHECK_EQ(epoll_wait(e, &got, 1, 1000), 1);
  CHECK_EQ(got.events, EPOLLHUP);
  close(e);
}
static void added_before_connect() {
  Listening l;
  int a = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), e = epoll_create1(0);
  epoll_event got;
  CHECK_EQ(add(e, a, EPOLLOUT | EPOLLIN | EPOLLET, 1), 0);
  CHECK_EQ(epoll_wait(e, &got, 1, 0), 1);
  CHECK_EQ(got.events, EPOLLOUT | EPOLLHUP);
  CHECK_FAILS(connect(a, sa(l.address), sizeof l.address), EINPROGRESS);
  CHECK_EQ(epoll_wait(e, &got, 1, 1000), 1);
  CHECK_EQ(got.events, EPOLLOUT);
  int b = accept(l.fd, nullptr, nullptr);
  CHECK_EQ(write(b, "x", 1), 1);
  CHECK_EQ(epoll_wait(e, &got, 1, 1000), 1);
  CHECK_EQ(got.events, EPOLLIN | EPOLLOUT);
  close(a), close(b), close(e);
}
static void added_before_listen() {
  int l = socket(AF_INET, SOCK_STREAM, 0), e = epoll_create1(0);
  CHECK_EQ(add(e, l, EPOLLIN, 3), 0);
  CHECK_EQ(listen(l, 4), 0);
  sockaddr_in to;
  socklen_t n = sizeof to;
  getsockname(l, sa(to), &n);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int a = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ(connect(a, sa(to), n), 0);
  epoll_event got;
  CHECK_EQ(epoll_wait(e, &got, 1, 1000), 1);
  CHECK_EQ(got.data.u64, 3);
  CHECK_EQ(got.events, EPOLLIN);
  close(a), close(l), close(e);
}
static void another_thread_shuts_down() {
  for (int how = 0; how < 3; ++how) {
    Pair p;
    int e = epoll_create1(0);
    add(e, p.a, EPOLLIN | EPOLLRDHUP, 1);
    pthread_t t;
    pthread_create(&t, nullptr, [](void* fd) -> void* {
      usleep(20000);
      shutdown(*static_cast<int*>(fd), SHUT_RDWR);
      return nullptr;
    }, &p.a);
    char c;
    epoll_event got;
    if (how == 0) CHECK_EQ(read(p.a, &c, 1), 0);
    if (how == 1) CHECK(wait_for(p.a, POLLIN) & POLLIN);
    if (how == 2) CHECK_EQ(epoll_wait(e, &got, 1, 5000), 1);
    pthread_join(t, nullptr);
    close(e);
  }
}
// Many threads on one edge|oneshot set, many connections: nothing stalls, no byte is lost.
static int shared_set;
static volatile bool stop;
static long taken;
static void* worker(void*) {
  while (!stop) {
    epoll_event got[4];
    int n = epoll_wait(shared_set, got, 4, 20);
    for (int i = 0; i < n; ++i) {
      int fd = got[i].data.fd;
      char block[64];
      for (ssize_t k; (k = recv(fd, block, sizeof block, MSG_DONTWAIT)) > 0;) __atomic_fetch_add(&taken, k, __ATOMIC_SEQ_CST);
      epoll_event again{EPOLLIN | EPOLLET | EPOLLONESHOT, {.fd = fd}};
      CHECK_EQ(epoll_ctl(shared_set, EPOLL_CTL_MOD, fd, &again), 0);
    }
  }
  return nullptr;
}
static void threads_share_a_set() {
  constexpr int kPairs = 24;
  std::vector<Pair> pairs(kPairs);
  shared_set = epoll_create1(0);
  stop = false, taken = 0;
  for (Pair& p : pairs) {
    epoll_event event{EPOLLIN | EPOLLET | EPOLLONESHOT, {.fd = p.a}};
    CHECK_EQ(epoll_ctl(shared_set, EPOLL_CTL_ADD, p.a, &event), 0);
  }
  pthread_t threads[4];
  for (pthread_t& t : threads) pthread_create(&t, nullptr, worker, nullptr);
  unsigned seed = 5;
  long sent = 0;
  for (int round = 0; round < 600; ++round) {
    for (int k = 0; k < 8; ++k) {
      int n = 1 + rand_r(&seed) % 30;
      char block[32] = {};
      sent += write(pairs[rand_r(&seed) % kPairs].b, block, static_cast<size_t>(n));
    }
    int64_t limit = now_ms() + 5000;
    while (__atomic_load_n(&taken, __ATOMIC_SEQ_CST) != sent && now_ms() < limit) sched_yield();
    if (taken != sent) break;
  }
  CHECK_EQ(taken, sent);
  stop = true;
  for (pthread_t t : threads) pthread_join(t, nullptr);
  close(shared_set);
}

int main() {
  static const Case cases[] = {
#define C(f) {#f, f}
      C(poll_says_what_is_ready), C(poll_times_out), C(poll_of_a_fresh_socket), C(poll_of_a_listener),
      C(sleepers_are_woken), C(a_kill_wakes_every_sleeper), C(mixed_with_pipes), C(select_errors_and_rest),
      C(epoll_errors), C(level_edge_oneshot), C(epoll_with_pipe_and_listener), C(real_events_are_not_starved),
      C(closing_takes_out_of_the_set), C(hang_up_is_told_without_being_asked), C(added_before_connect),
      C(added_before_listen), C(another_thread_shuts_down), C(threads_share_a_set)};
  return run_all(cases);
}
