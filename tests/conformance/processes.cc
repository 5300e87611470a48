// dup, fork, exec, descriptor passing, signals, cancellation.
#include <pthread.h>
#include <sched.h>
#include <spawn.h>

#include <atomic>

#include "check.hh"

static void duplicates_are_one_description() {
  Pair p;
  int d = dup(p.a);
  CHECK_EQ(write(d, "x", 1), 1);
  nonblocking(p.a);
  CHECK(fcntl(d, F_GETFL) & O_NONBLOCK);
  char c;
  CHECK_FAILS(read(d, &c, 1), EAGAIN);
  p.close_a();
  CHECK_EQ(write(p.b, "y", 1), 1);
  CHECK_EQ(wait_for(d, POLLIN), POLLIN);
  CHECK_EQ(read(d, &c, 1), 1);
  CHECK_EQ(read(p.b, &c, 1), 1);
  nonblocking(p.b);
  CHECK_FAILS(read(p.b, &c, 1), EAGAIN);
  close(d);
  CHECK_EQ(wait_for(p.b, POLLIN), POLLIN);
  CHECK_EQ(read(p.b, &c, 1), 0);
}
static void dup2_replaces() {
  Pair p, q;
  char c;
  CHECK_EQ(dup2(p.a, q.a), q.a);
  CHECK_EQ(read(q.b, &c, 1), 0);
  CHECK_EQ(write(q.a, "x", 1), 1);
  CHECK_EQ(read(p.b, &c, 1), 1);
  CHECK_EQ(dup2(p.a, p.a), p.a);
  CHECK_FAILS(dup3(p.a, p.a, 0), EINVAL);
  CHECK_FAILS(dup2(999, p.a), EBADF);
  int high = fcntl(p.a, F_DUPFD_CLOEXEC, 100);
  CHECK(high >= 100);
  CHECK_EQ(fcntl(high, F_GETFD), FD_CLOEXEC);
  CHECK_EQ(write(high, "z", 1), 1);
  CHECK_EQ(read(p.b, &c, 1), 1);
  CHECK_EQ(dup3(q.b, high, O_CLOEXEC), high);
  close(high);
  int file = open("/dev/null", O_RDWR);
  CHECK_EQ(dup2(file, p.a), p.a);
  CHECK_EQ(write(p.a, "gone", 4), 4);
  close(file);
}
static void close_range_closes() {
  Pair p;
  char c;
  int d = fcntl(p.a, F_DUPFD, 200);
  p.close_a();
  CHECK_EQ(close_range(200, ~0u, 0), 0);
  CHECK_EQ(read(p.b, &c, 1), 0);
  CHECK_FAILS(close(d), EBADF);
}
static void children_keep_the_connection() {
  Pair p;
  char c;
  int closed[2];
  CHECK_EQ(pipe(closed), 0);
  pid_t child = fork();
  if (child == 0) {
    close(p.b), close(closed[1]);
    CHECK_EQ(read(closed[0], &c, 1), 0);
    _exit(write(p.a, "c", 1) == 1 && read(p.a, &c, 1) == 1 ? 0 : 1);
  }
  p.close_a();
  close(closed[0]), close(closed[1]);
  CHECK_EQ(read(p.b, &c, 1), 1);
  CHECK_EQ(write(p.b, "d", 1), 1);
  CHECK_EQ(wait_child(child), 0);
  CHECK_EQ(read(p.b, &c, 1), 0);
}
static void children_accept() {
  Listening l;
  pid_t children[3];
  for (pid_t& child : children) {
    child = fork();
    if (child) continue;
    int b = accept(l.fd, nullptr, nullptr);
    char c;
    while (read(b, &c, 1) == 1) CHECK_EQ(write(b, &c, 1), 1);
    _exit(failures);
  }
  for (int i = 0; i < 3; ++i) {
    int a = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(connect(a, sa(l.address), sizeof l.address), 0);
    char c = 'q';
    CHECK_EQ(write(a, &c, 1), 1);
    CHECK_EQ(read(a, &c, 1), 1);
    close(a);
  }
  for (pid_t child : children) CHECK_EQ(wait_child(child), 0);
}
static void both_read_one_socket() {
  Pair p;
  pid_t child = fork();
  constexpr int kTotal = 20000;
  if (child == 0) {
    close(p.b);
    int n = 0;
    char block[8];
    for (ssize_t k; (k = read(p.a, block, sizeof block)) > 0;) n += static_cast<int>(k);
    int out = n;
    FILE* f = fopen("/dev/null", "w");
    fclose(f);
    _exit(out == 0 ? 0 : 1 + out % 100);
  }
  for (int i = 0; i < kTotal / 8; ++i) CHECK_EQ(write(p.b, "12345678", 8), 8);
  shutdown(p.b, SHUT_WR);
  int mine = 0;
  char block[8];
  for (ssize_t k; (k = read(p.a, block, sizeof block)) > 0;) mine += static_cast<int>(k);
  int theirs = wait_child(child);
  CHECK_EQ((kTotal - mine == 0 ? 0 : 1 + (kTotal - mine) % 100), theirs);
}
static char* self_path;
static void exec_keeps_sockets() {
  Listening l;
  Pair p;
  pid_t child = fork();
  if (child == 0) {
    char a[16], listener[16];
    snprintf(a, sizeof a, "%d", p.a);
    snprintf(listener, sizeof listener, "%d", l.fd);
    close(p.b);
    execl(self_path, self_path, "--child", a, listener, nullptr);
    _exit(99);
  }
  p.close_a();
  char text[8] = {};
  CHECK_EQ(read(p.b, text, 5), 5);
  CHECK_EQ(strcmp(text, "execd"), 0);
  int c = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ(connect(c, sa(l.address), sizeof l.address), 0);
  CHECK_EQ(read(c, text, 3), 3);
  close(c);
  CHECK_EQ(wait_child(child), 0);
  CHECK_EQ(read(p.b, text, 1), 0);
}
static int child_of_exec(int fd, int listener) {
  sockaddr_in peer;
  socklen_t n = sizeof peer;
  CHECK_EQ(getpeername(fd, sa(peer), &n), 0);
  CHECK_EQ(peer.sin_family, AF_INET);
  CHECK_EQ(write(fd, "execd", 5), 5);
  int b = accept(listener, nullptr, nullptr);
  CHECK(b >= 0);
  CHECK_EQ(write(b, "acc", 3), 3);
  close(b);
  return failures;
}
static void spawned_children_hold_copies() {
  Pair p;
  char sleep_command[] = "read x", shell[] = "sh", option[] = "-c";
  char* arguments[] = {shell, option, sleep_command, nullptr};
  int hold[2];
  CHECK_EQ(pipe(hold), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, hold[0], 0);
  posix_spawn_file_actions_addclose(&actions, p.b);
  posix_spawn_file_actions_addclose(&actions, hold[1]);
  pid_t child;
  CHECK_EQ(posix_spawnp(&child, "sh", &actions, nullptr, arguments, environ), 0);
  p.close_a();
  char c;
  CHECK_EQ(wait_for(p.b, POLLIN, 50), 0);
  close(hold[1]), close(hold[0]);
  wait_child(child);
  CHECK_EQ(read(p.b, &c, 1), 0);
}
static void passes_descriptors() {
  Pair p;
  int u[2];
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, u), 0);
  pid_t child = fork();
  if (child == 0) {
    close(p.a), close(p.b), close(u[0]);
    char byte, space[CMSG_SPACE(sizeof(int))];
    iovec part{&byte, 1};
    msghdr m{};
    m.msg_iov = &part, m.msg_iovlen = 1, m.msg_control = space, m.msg_controllen = sizeof space;
    CHECK_EQ(recvmsg(u[1], &m, 0), 1);
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    CHECK_EQ(write(fd, "passed", 6), 6);
    _exit(failures);
  }
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
  char byte = 0;
  iovec part{&byte, 1};
  msghdr m{};
  m.msg_iov = &part, m.msg_iovlen = 1, m.msg_control = space, m.msg_controllen = sizeof space;
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(c), &p.a, sizeof p.a);
  CHECK_EQ(sendmsg(u[0], &m, 0), 1);
  p.close_a();
  char text[8];
  CHECK_EQ(recv(p.b, text, 6, MSG_WAITALL), 6);
  CHECK_EQ(wait_child(child), 0);
  CHECK_EQ(read(p.b, text, 1), 0);
  close(u[0]), close(u[1]);
}
static volatile sig_atomic_t alarms;
static void on_alarm(int) { alarms = alarms + 1; }
static void set_timer(int us) {
  itimerval t{{0, us}, {0, us}};
  setitimer(ITIMER_REAL, &t, nullptr);
}
static void handler(int flags, void (*function)(int) = on_alarm) {
  struct sigaction action {};
  action.sa_handler = function;
  action.sa_flags = flags;
  sigaction(SIGALRM, &action, nullptr);
}
static void signals_interrupt() {
  Pair p;
  char c;
  handler(0);
  set_timer(20000);
  CHECK_FAILS(read(p.a, &c, 1), EINTR);
  pollfd f{p.a, POLLIN, 0};
  CHECK_FAILS(poll(&f, 1, 5000), EINTR);
  int e = epoll_create1(0);
  epoll_event event{EPOLLIN, {}};
  epoll_ctl(e, EPOLL_CTL_ADD, p.a, &event);
  CHECK_FAILS(epoll_wait(e, &event, 1, 5000), EINTR);
  Listening l;
  CHECK_FAILS(accept(l.fd, nullptr, nullptr), EINTR);
  set_timer(0);
  CHECK(alarms >= 4);
  close(e);
}
static int alarm_pipe[2];
static void tell_alarm(int) {
  alarms = alarms + 1;
  (void)!write(alarm_pipe[1], "a", 1);
}
static void restarts_when_asked() {
  Pair p;
  alarms = 0;
  CHECK_EQ(pipe(alarm_pipe), 0);
  handler(SA_RESTART, tell_alarm);
  pid_t child = fork();
  if (child == 0) {
    close(p.a);
    char c;
    for (int i = 0; i < 4; ++i) CHECK_EQ(read(alarm_pipe[0], &c, 1), 1);
    _exit(write(p.b, "x", 1) == 1 ? failures : 1);
  }
  set_timer(10000);
  char c;
  CHECK_EQ(read(p.a, &c, 1), 1);
  set_timer(0);
  CHECK(alarms >= 4);
  CHECK_EQ(wait_child(child), 0);
  close(alarm_pipe[0]), close(alarm_pipe[1]);
}
static void handlers_are_as_set() {
  struct sigaction action {}, old {};
  handler(SA_RESTART | SA_NODEFER);
  CHECK_EQ(sigaction(SIGALRM, nullptr, &old), 0);
  CHECK(old.sa_handler == on_alarm);
  CHECK_EQ(old.sa_flags & ~0x04000000, SA_RESTART | SA_NODEFER);
  action.sa_handler = on_alarm;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  CHECK_EQ(sigaction(SIGALRM, &action, &old), 0);
  alarms = 0;
  raise(SIGALRM);
  CHECK_EQ(alarms, 1);
  CHECK_EQ(sigaction(SIGALRM, nullptr, &old), 0);
  CHECK(old.sa_handler == SIG_DFL);
  CHECK(signal(SIGUSR1, on_alarm) == SIG_DFL);
  CHECK(signal(SIGUSR1, SIG_IGN) == on_alarm);
  CHECK(signal(SIGUSR1, SIG_DFL) == SIG_IGN);
  CHECK_FAILS(sigaction(SIGKILL, &action, nullptr), EINVAL);
}
static int signal_pair[2];
static volatile long handled_bytes;
static void use_the_same_socket(int) {
  int saved = errno;
  char c = 's';
  if (send(signal_pair[0], &c, 1, MSG_DONTWAIT) == 1) handled_bytes = handled_bytes + 1;
  errno = saved;
}
// A handler uses the very socket whose call it interrupts.
static void handlers_use_the_same_socket() {
  Pair p;
  signal_pair[0] = p.a;
  handled_bytes = 0;
  struct sigaction action {};
  action.sa_handler = use_the_same_socket;
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);
  pid_t child = fork();
  if (child == 0) {
    close(p.a);
    char block[4096];
    long total = 0, marks = 0;
    for (ssize_t n; (n = read(p.b, block, sizeof block)) > 0;)
      for (ssize_t i = 0; i < n; ++i) ++total, marks += block[i] == 's';
    int out = static_cast<int>(marks % 100);
    _exit(total - marks == 400000 ? out : 200);
  }
  p.close_b();
  set_timer(200);
  for (int i = 0; i < 100000; ++i) {
    int at = 0;
    while (at < 4) {
      ssize_t n = write(p.a, "....", static_cast<size_t>(4 - at));
      if (n < 0) {
        CHECK(n >= 0);
        break;
      }
      at += static_cast<int>(n);
    }
  }
  set_timer(0);
  p.close_a();
  CHECK_EQ(wait_child(child), handled_bytes % 100);
  signal(SIGALRM, SIG_DFL);
}
static std::atomic<int> blocker;  // /proc/thread-self/stat of who is about to sleep
static int own_state() { return open("/proc/thread-self/stat", O_RDONLY); }
static void* blocked_reader(void* fd) {
  char c;
  blocker = own_state();
  (void)!read(*static_cast<int*>(fd), &c, 1);
  return nullptr;
}
// The thread has opened it as the last before the call in which it shall sleep.
static void await_sleep() {
  char text[256];
  const char* state = nullptr;
  while (!blocker) sched_yield();
  while (!state || state[2] != 'S') {
    sched_yield();
    ssize_t n = pread(blocker, text, sizeof text - 1, 0);
    CHECK(n > 0);
    text[n > 0 ? n : 0] = 0;
    state = strrchr(text, ')');
  }
  close(blocker);
}
static void threads_can_be_cancelled() {
  for (int how = 0; how < 3; ++how) {
    Pair p;
    pthread_t t;
    blocker = 0;
    if (how == 0) pthread_create(&t, nullptr, blocked_reader, &p.a);
    if (how == 1)
      pthread_create(&t, nullptr, [](void* fd) -> void* {
        blocker = own_state();
        wait_for(*static_cast<int*>(fd), POLLIN, 60000);
        return nullptr;
      }, &p.a);
    if (how == 2)
      pthread_create(&t, nullptr, [](void* fd) -> void* {
        int e = epoll_create1(0);
        epoll_event event{EPOLLIN, {}};
        epoll_ctl(e, EPOLL_CTL_ADD, *static_cast<int*>(fd), &event);
        blocker = own_state();
        epoll_wait(e, &event, 1, 60000);
        return nullptr;
      }, &p.a);
    await_sleep();
    CHECK_EQ(pthread_cancel(t), 0);
    void* result;
    CHECK_EQ(pthread_join(t, &result), 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK_EQ(write(p.b, "x", 1), 1);
    char c;
    CHECK_EQ(wait_for(p.a, POLLIN), POLLIN);
    CHECK_EQ(read(p.a, &c, 1), 1);
  }
}
static void many_threads_come_and_go() {
  Pair p;
  for (int i = 0; i < 600; ++i) {
    pthread_t t;
    pthread_create(&t, nullptr, [](void* fd) -> void* {
      CHECK_EQ(write(*static_cast<int*>(fd), "x", 1), 1);
      return nullptr;
    }, &p.b);
    char c;
    CHECK_EQ(read(p.a, &c, 1), 1);
    pthread_join(t, nullptr);
  }
}
static void vfork_and_exec() {
  Pair p;
  pid_t child = vfork();
  if (child == 0) {
    close(p.a);
    execl("/bin/true", "true", nullptr);
    _exit(1);
  }
  CHECK_EQ(wait_child(child), 0);
  CHECK_EQ(write(p.a, "x", 1), 1);
  char c;
  CHECK_EQ(read(p.b, &c, 1), 1);
}

int main(int argc, char** argv) {
  self_path = argv[0];
  if (argc == 4) return child_of_exec(atoi(argv[2]), atoi(argv[3]));
  static const Case cases[] = {
#define C(f) {#f, f}
      C(duplicates_are_one_description), C(dup2_replaces), C(close_range_closes), C(children_keep_the_connection),
      C(children_accept), C(both_read_one_socket), C(exec_keeps_sockets), C(spawned_children_hold_copies),
      C(passes_descriptors), C(signals_interrupt), C(restarts_when_asked), C(handlers_are_as_set),
      C(handlers_use_the_same_socket), C(threads_can_be_cancelled), C(many_threads_come_and_go), C(vfork_and_exec)};
  return run_all(cases);
}
