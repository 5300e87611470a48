// read, write and their kin; ends of streams, resets, time-outs, signals.
#include <pthread.h>
#include <sys/sendfile.h>

#include "check.hh"

static void all_forms_of_reading_and_writing() {
  Pair p;
  char text[64] = {};
  CHECK_EQ(write(p.a, "ab", 2), 2);
  CHECK_EQ(send(p.a, "cd", 2, 0), 2);
  CHECK_EQ(sendto(p.a, "ef", 2, 0, nullptr, 0), 2);
  iovec out[2] = {{const_cast<char*>("g"), 1}, {const_cast<char*>("hi"), 2}};
  CHECK_EQ(writev(p.a, out, 2), 3);
  msghdr m{};
  m.msg_iov = out, m.msg_iovlen = 2;
  CHECK_EQ(sendmsg(p.a, &m, 0), 3);
  mmsghdr many[2]{};
  many[0].msg_hdr = many[1].msg_hdr = m;
  CHECK_EQ(sendmmsg(p.a, many, 2, 0), 2);
  CHECK_EQ(many[1].msg_len, 3);
  CHECK_EQ(read(p.b, text, 3), 3);
  CHECK_EQ(recv(p.b, text + 3, 1, 0), 1);
  sockaddr_in from;
  socklen_t n = sizeof from;
  CHECK_EQ(recvfrom(p.b, text + 4, 2, 0, sa(from), &n), 2);
  iovec in[2] = {{text + 6, 2}, {text + 8, 1}};
  CHECK_EQ(readv(p.b, in, 2), 3);
  iovec rest{text + 9, 50};
  msghdr r{};
  char control[64];
  r.msg_iov = &rest, r.msg_iovlen = 1, r.msg_control = control, r.msg_controllen = sizeof control;
  CHECK_EQ(recvmsg(p.b, &r, 0), 9);
  CHECK_EQ(r.msg_controllen, 0);
  CHECK_EQ(r.msg_flags, 0);
  CHECK_EQ(strcmp(text, "abcdefghighighighi"), 0);
}
static void nothing_to_read() {
  Pair p;
  char c;
  CHECK_FAILS(recv(p.a, &c, 1, MSG_DONTWAIT), EAGAIN);
  nonblocking(p.a);
  CHECK_FAILS(read(p.a, &c, 1), EAGAIN);
  CHECK_EQ(read(p.a, &c, 0), 0);
  int on = 0;
  ioctl(p.a, FIONBIO, &on);
  CHECK_EQ(fcntl(p.a, F_GETFL) & O_NONBLOCK, 0);
}
static void peek_and_waitall() {
  Pair p;
  char text[16] = {};
  CHECK_EQ(write(p.a, "hello", 5), 5);
  CHECK_EQ(recv(p.b, text, 3, MSG_PEEK), 3);
  CHECK_EQ(recv(p.b, text, 16, MSG_PEEK), 5);
  int n = 0;
  CHECK_EQ(ioctl(p.b, FIONREAD, &n), 0);
  CHECK_EQ(n, 5);
  if (fork() == 0) {
    usleep(20000);
    CHECK_EQ(write(p.a, " world", 6), 6);
    _exit(failures);
  }
  CHECK_EQ(recv(p.b, text, 11, MSG_WAITALL), 11);
  CHECK_EQ(memcmp(text, "hello world", 11), 0);
  int status;
  wait(&status);
  CHECK_EQ(status, 0);
  CHECK_EQ(write(p.a, "12345", 5), 5);
  CHECK_EQ(recv(p.b, text, 16, MSG_WAITALL | MSG_DONTWAIT), 5);
}
static void trunc_discards() {
  Pair p;
  char text[8] = "keep";
  CHECK_EQ(write(p.a, "0123456789", 10), 10);
  CHECK_EQ(recv(p.b, nullptr, 6, MSG_TRUNC), 6);
  CHECK_EQ(recv(p.b, text, 8, 0), 4);
  CHECK_EQ(memcmp(text, "6789", 4), 0);
}
static void end_of_stream() {
  Pair p;
  char text[8];
  CHECK_EQ(write(p.a, "last", 4), 4);
  CHECK_EQ(shutdown(p.a, SHUT_WR), 0);
  CHECK_EQ(read(p.b, text, 8), 4);
  CHECK_EQ(read(p.b, text, 8), 0);
  CHECK_EQ(read(p.b, text, 8), 0);
  CHECK_EQ(write(p.b, "still", 5), 5);
  CHECK_EQ(read(p.a, text, 8), 5);
  CHECK_FAILS(write(p.a, "x", 1), EPIPE);
  CHECK_EQ(shutdown(p.b, SHUT_WR), 0);
  CHECK_EQ(read(p.a, text, 8), 0);
}
static void own_reading_side_shut() {
  Pair p;
  char text[8];
  CHECK_EQ(shutdown(p.a, SHUT_RD), 0);
  CHECK_EQ(read(p.a, text, 8), 0);
  CHECK_EQ(write(p.a, "out", 3), 3);
  CHECK_EQ(read(p.b, text, 8), 3);
  CHECK_FAILS(shutdown(p.a, 9), EINVAL);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_FAILS(shutdown(fd, SHUT_WR), ENOTCONN);
  CHECK_FAILS(read(fd, text, 1), ENOTCONN);
  CHECK_FAILS(write(fd, text, 1), EPIPE);
  close(fd);
}
static void close_is_end_of_stream() {
  Pair p;
  char text[8];
  CHECK_EQ(write(p.a, "abc", 3), 3);
  p.close_a();
  CHECK_EQ(read(p.b, text, 8), 3);
  CHECK_EQ(read(p.b, text, 8), 0);
  CHECK_EQ(write(p.b, "x", 1), 1);  // answered by a reset
  wait_for(p.b, 0, 1);
  CHECK_FAILS(write(p.b, "x", 1), EPIPE);
}
static void unread_bytes_reset() {
  Pair p;
  char text[8];
  CHECK_EQ(write(p.b, "unread", 6), 6);
  CHECK_EQ(wait_for(p.a, POLLIN), POLLIN);
  p.close_a();
  wait_for(p.b, POLLIN);
  CHECK_FAILS(read(p.b, text, 8), ECONNRESET);
  CHECK_EQ(read(p.b, text, 8), 0);
  CHECK_FAILS(write(p.b, "x", 1), EPIPE);
}
static void linger_zero_resets() {
  Pair p;
  char text[8];
  reset_on_close(p.a);
  p.close_a();
  CHECK(wait_for(p.b, POLLIN) & (POLLHUP | POLLERR));
  int error = 0;
  socklen_t n = sizeof error;
  CHECK_EQ(getsockopt(p.b, SOL_SOCKET, SO_ERROR, &error, &n), 0);
  CHECK_EQ(error, ECONNRESET);
  CHECK_EQ(getsockopt(p.b, SOL_SOCKET, SO_ERROR, &error, &n), 0);
  CHECK_EQ(error, 0);
  CHECK_EQ(read(p.b, text, 8), 0);
}
static void a_killed_peer_ends_the_stream() {
  Pair p;
  pid_t child = fork();
  if (child == 0) {
    close(p.b);
    CHECK_EQ(write(p.a, "x", 1), 1);
    pause();
  }
  p.close_a();
  char c;
  CHECK_EQ(read(p.b, &c, 1), 1);
  kill(child, SIGKILL);
  CHECK_EQ(read(p.b, &c, 1), 0);
  wait_child(child);
}
static volatile sig_atomic_t pipes;
static void on_pipe(int) { pipes = pipes + 1; }
static void sigpipe() {
  Pair p;
  signal(SIGPIPE, on_pipe);
  pipes = 0;
  shutdown(p.a, SHUT_WR);
  CHECK_FAILS(write(p.a, "x", 1), EPIPE);
  CHECK_EQ(pipes, 1);
  CHECK_FAILS(send(p.a, "x", 1, MSG_NOSIGNAL), EPIPE);
  CHECK_EQ(pipes, 1);
  signal(SIGPIPE, SIG_IGN);
}
static void time_outs() {
  Pair p;
  timeval t{0, 50000};
  CHECK_EQ(setsockopt(p.a, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t), 0);
  char c;
  int64_t begin = now_ms();
  CHECK_FAILS(read(p.a, &c, 1), EAGAIN);
  CHECK(now_ms() - begin >= 45);
  CHECK_EQ(setsockopt(p.a, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t), 0);
  static char block[1 << 20];
  begin = now_ms();
  ssize_t n;
  while ((n = write(p.a, block, sizeof block)) == sizeof block) {
  }
  CHECK(now_ms() - begin >= 45);
  CHECK(n > 0 || errno == EAGAIN);
}
static void fills_and_drains() {
  Pair p;
  nonblocking(p.a), nonblocking(p.b);
  static char block[65536];
  size_t sent = 0, got = 0;
  for (ssize_t n; (n = write(p.a, block, sizeof block)) > 0;) sent += static_cast<size_t>(n);
  CHECK_EQ(errno, EAGAIN);
  CHECK(sent >= 65536);
  CHECK_EQ(wait_for(p.a, POLLOUT, 0), 0);
  while (got < sent) {
    ssize_t n = read(p.b, block, sizeof block);
    if (n < 0) {
      CHECK_EQ(errno, EAGAIN);
      CHECK(wait_for(p.b, POLLIN) & POLLIN);
      continue;
    }
    got += static_cast<size_t>(n);
  }
  CHECK_EQ(wait_for(p.a, POLLOUT), POLLOUT);
  CHECK(write(p.a, block, 100) == 100);
}
// Both directions at once, by two processes, blocking, in odd sizes: every byte, once, in order.
static unsigned char pattern(uint64_t i) { return static_cast<unsigned char>(i * 2654435761u >> 13); }
static void stream_out(int fd, uint64_t total, unsigned seed) {
  static unsigned char block[100000];
  for (uint64_t done = 0; done < total;) {
    size_t n = 1 + rand_r(&seed) % (rand_r(&seed) % 4 ? 700 : sizeof block);
    if (n > total - done) n = total - done;
    for (size_t i = 0; i < n; ++i) block[i] = pattern(done + i);
    for (size_t at = 0; at < n;) {
      ssize_t k = write(fd, block + at, n - at);
      if (k <= 0) {
        CHECK(k > 0);
        return;
      }
      at += static_cast<size_t>(k);
    }
    done += n;
  }
  shutdown(fd, SHUT_WR);
}
static void stream_in(int fd, uint64_t total, unsigned seed) {
  static unsigned char block[100000];
  uint64_t done = 0;
  for (;;) {
    ssize_t n = read(fd, block, 1 + rand_r(&seed) % sizeof block);
    if (n <= 0) break;
    for (ssize_t i = 0; i < n; ++i)
      if (block[i] != pattern(done + static_cast<uint64_t>(i))) {
        CHECK_EQ(block[i], pattern(done + static_cast<uint64_t>(i)));
        return;
      }
    done += static_cast<uint64_t>(n);
  }
  CHECK_EQ(done, total);
}
static void both_directions() {
  Pair p;
  constexpr uint64_t kTotal = 20 << 20;
  pid_t children[3];
  for (int i = 0; i < 3; ++i) {
    children[i] = fork();
    if (children[i]) continue;
    if (i == 0) close(p.b), stream_out(p.a, kTotal, 1);
    if (i == 1) close(p.b), stream_in(p.a, kTotal, 2);
    if (i == 2) close(p.a), stream_out(p.b, kTotal, 3);
    _exit(failures);
  }
  p.close_a();
  stream_in(p.b, kTotal, 4);
  p.close_b();
  for (pid_t child : children) CHECK_EQ(wait_child(child), 0);
}
struct Task {
  int fd;
  uint64_t total;
};
static void threads_in_both_directions() {
  Pair p;
  Task task{p.a, 8 << 20}, echo{p.b, 0};
  pthread_t writer, server;
  pthread_create(&writer, nullptr, [](void* t) -> void* {
    stream_out(static_cast<Task*>(t)->fd, static_cast<Task*>(t)->total, 7);
    return nullptr;
  }, &task);
  pthread_create(&server, nullptr, [](void* t) -> void* {
    int fd = static_cast<Task*>(t)->fd;
    static char block[5000];
    for (ssize_t n; (n = read(fd, block, sizeof block)) > 0;)
      for (ssize_t at = 0; at < n;) at += write(fd, block + at, static_cast<size_t>(n - at));
    shutdown(fd, SHUT_WR);
    return nullptr;
  }, &echo);
  stream_in(p.a, task.total, 8);
  pthread_join(writer, nullptr);
  pthread_join(server, nullptr);
}
static void sends_a_file() {
  Pair p;
  char name[] = "/tmp/conformance-XXXXXX";
  int file = mkstemp(name);
  unlink(name);
  CHECK_EQ(write(file, "0123456789", 10), 10);
  off_t offset = 2;
  CHECK_EQ(sendfile(p.a, file, &offset, 5), 5);
  CHECK_EQ(offset, 7);
  lseek(file, 8, SEEK_SET);
  CHECK_EQ(sendfile(p.a, file, nullptr, 100), 2);
  CHECK_EQ(lseek(file, 0, SEEK_CUR), 10);
  char text[16];
  CHECK_EQ(recv(p.b, text, 7, MSG_WAITALL), 7);
  CHECK_EQ(memcmp(text, "2345689", 7), 0);
  close(file);
}
static void bad_vectors() {
  Pair p;
  iovec v{nullptr, 0};
  CHECK_FAILS(readv(p.a, &v, -1), EINVAL);
  CHECK_FAILS(writev(p.a, &v, 5000), EINVAL);
  CHECK_EQ(writev(p.a, &v, 0), 0);
}

int main() {
  static const Case cases[] = {
#define C(f) {#f, f}
      C(all_forms_of_reading_and_writing), C(nothing_to_read), C(peek_and_waitall), C(trunc_discards), C(end_of_stream),
      C(own_reading_side_shut), C(close_is_end_of_stream), C(unread_bytes_reset), C(linger_zero_resets),
      C(a_killed_peer_ends_the_stream), C(sigpipe), C(time_outs), C(fills_and_drains), C(both_directions),
      C(threads_in_both_directions), C(sends_a_file), C(bad_vectors)};
  return run_all(cases);
}
