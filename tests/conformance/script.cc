// Plays a script of socket operations, one a line from stdin, on three connections, and prints what each answered.
// Deterministic: every step that depends on the other side is preceded by a wait. The property test plays the same
// script bare and wrapped and compares.
//
//   w C S N F   write N bytes from side S of connection C (F: 0 write, 1 send, 2 writev)      r C S N F  read (1 peek, 2 waitall)
//   s C S H     shut down       c C S L   close (L: linger zero)      p C S  poll      e C S  epoll_wait     o C S  SO_ERROR
//   q C S       FIONREAD        m C S E   change the set's interest   d C S  dup and close the original
#include "check.hh"

static int ends[3][2];
static int sets[3][2];
static uint64_t written[3][2], got[3][2];

static const char* name(int error) { return strerrorname_np(error) ? strerrorname_np(error) : "0"; }

// What one side does reaches the other before the next step: TCP's acknowledgements and resets too.
static void settle() {
  timespec t{0, 300000};
  nanosleep(&t, nullptr);
}

static void transfer_out(int c, int s, unsigned n, int form) {
  static unsigned char block[1 << 16];
  for (unsigned i = 0; i < n; ++i) block[i] = static_cast<unsigned char>((written[c][s] + i) * 31 + 7);
  iovec v[2] = {{block, n / 2}, {block + n / 2, n - n / 2}};
  errno = 0;
  ssize_t k = form == 0 ? write(ends[c][s], block, n) : form == 1 ? send(ends[c][s], block, n, MSG_DONTWAIT) : writev(ends[c][s], v, 2);
  if (k > 0) written[c][s] += static_cast<uint64_t>(k);
  printf("write %zd %s\n", k, k < 0 ? name(errno) : "");
}
static void transfer_in(int c, int s, unsigned n, int form) {
  static unsigned char block[1 << 16];
  errno = 0;
  ssize_t k = recv(ends[c][s], block, n, form == 1 ? MSG_PEEK : form == 2 ? MSG_WAITALL | MSG_DONTWAIT : 0);
  bool right = true;
  for (ssize_t i = 0; i < k; ++i) right &= block[i] == static_cast<unsigned char>((got[c][1 - s] + static_cast<uint64_t>(i)) * 31 + 7);
  if (k > 0 && form != 1) got[c][1 - s] += static_cast<uint64_t>(k);
  printf("read %zd %s %s\n", k, k < 0 ? name(errno) : "", right ? "" : "WRONG BYTES");
}

int main() {
  signal(SIGPIPE, SIG_IGN);
  for (int c = 0; c < 3; ++c) {
    Pair* p = new Pair;
    ends[c][0] = p->a, ends[c][1] = p->b;
    for (int s = 0; s < 2; ++s) {
      nonblocking(ends[c][s]);
      sets[c][s] = epoll_create1(0);
      epoll_event event{c == 0 ? EPOLLIN | EPOLLRDHUP : c == 1 ? EPOLLIN | EPOLLET : EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, {}};
      epoll_ctl(sets[c][s], EPOLL_CTL_ADD, ends[c][s], &event);
    }
  }
  char op;
  int c, s;
  while (scanf(" %c %d %d", &op, &c, &s) == 3) {
    unsigned x = 0, y = 0;
    if (strchr("wr", op) && scanf("%u %u", &x, &y) != 2) return 2;
    if (strchr("scm", op) && scanf("%u", &x) != 1) return 2;
    int fd = ends[c][s];
    printf("%c %d %d: ", op, c, s);
    if (fd < 0) {
      printf("closed\n");
      continue;
    }
    errno = 0;
    if (op == 'w') transfer_out(c, s, x, static_cast<int>(y));
    if (op == 'r') transfer_in(c, s, x, static_cast<int>(y));
    if (op == 's') {
      int r = shutdown(fd, static_cast<int>(x));
      printf("shutdown %d %s\n", r, r ? name(errno) : "");
    }
    if (op == 'c') {
      if (x) reset_on_close(fd);
      printf("close %d\n", close(fd));
      ends[c][s] = -1;
    }
    if (op == 'p') {
      pollfd p{fd, POLLIN | POLLOUT | POLLRDHUP, 0};
      int n = poll(&p, 1, 0);
      printf("poll %d %x\n", n, p.revents);
    }
    if (op == 'e') {
      epoll_event event{};
      int n = epoll_wait(sets[c][s], &event, 1, 0);
      printf("epoll %d %x\n", n, n ? event.events : 0);
    }
    if (op == 'm') {
      epoll_event event{(x & 1 ? EPOLLOUT : 0u) | (x & 2 ? EPOLLIN : 0u) | (x & 4 ? EPOLLET : 0u) | (x & 8 ? EPOLLONESHOT : 0u), {}};
      printf("modify %d\n", epoll_ctl(sets[c][s], EPOLL_CTL_MOD, fd, &event));
    }
    if (op == 'o') {
      int error = -1;
      socklen_t n = sizeof error;
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n);
      printf("error %s\n", name(error));
    }
    if (op == 'q') {
      int n = -1;
      ioctl(fd, FIONREAD, &n);
      printf("queued %d\n", n);
    }
    settle();
  }
  return failures;
}
