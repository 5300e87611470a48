// The plain programs that tests/bench/run measures. They know nothing of Godwit; the same binary runs wrapped and bare.
//
//   sockets serve ADDRESS PORT     answers one client after the other
//   sockets client ADDRESS PORT    connects once and does what stdin says, a line each:
//       pingpong SIZE SECONDS      messages of SIZE bytes there and back   -> result COUNT SECONDS
//       stream SIZE SECONDS        writes of SIZE bytes, one way           -> result BYTES SECONDS
//       send BYTES                 so many bytes once, until they are read -> result BYTES SECONDS
//   sockets watch ADDRESS PORT     a Redis client that always has one INCR outstanding;
//       at each line of stdin      -> longest MS   without a reply since the line before
//
// A round begins with a Round; in every message the first byte says whether it is the last of its round.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

struct Round {
  uint32_t echo;  // 1: every message comes back; 0: one byte comes back at the end
  uint32_t size;  // bytes of a message
};

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

[[noreturn]] void die(const char* what) {
  perror(what);
  exit(1);
}

bool read_all(int fd, void* to, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t n = recv(fd, static_cast<char*>(to) + done, size - done, 0);
    if (n < 0) die("recv");
    if (n == 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

void write_all(int fd, const void* from, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t n = send(fd, static_cast<const char*>(from) + done, size - done, MSG_NOSIGNAL);
    if (n < 0) die("send");
    done += static_cast<size_t>(n);
  }
}

sockaddr_in address_of(const char* address, const char* port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(static_cast<uint16_t>(atoi(port)));
  if (inet_pton(AF_INET, address, &a.sin_addr) != 1) die(address);
  return a;
}

int no_delay(int fd) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

int connect_to(const char* address, const char* port) {
  sockaddr_in a = address_of(address, port);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0) die("connect");
  return no_delay(fd);
}

void serve_client(int fd) {
  std::vector<char> message;
  Round round;
  while (read_all(fd, &round, sizeof round)) {
    message.resize(round.size);
    do {
      if (!read_all(fd, message.data(), round.size)) return;
      if (round.echo) write_all(fd, message.data(), round.size);
    } while (!message[0]);
    if (!round.echo) write_all(fd, message.data(), 1);
  }
}

int serve(const char* address, const char* port) {
  sockaddr_in a = address_of(address, port);
  int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0) die("bind");
  if (listen(listener, 16) != 0) die("listen");
  puts("listening");
  fflush(stdout);
  for (;;) {
    int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) die("accept");
    serve_client(no_delay(fd));
    close(fd);
  }
}

void play(int fd, Round round, double seconds, uint64_t bytes) {
  constexpr int kBatch = 16;  // the clock is read once a batch
  std::vector<char> message(round.size, 0);
  uint64_t count = 0;
  double start = now(), end = start + seconds;
  write_all(fd, &round, sizeof round);
  for (bool last = false; !last; count++) {
    last = bytes ? (count + 1) * round.size >= bytes : count % kBatch == 0 && now() >= end;
    message[0] = last;
    write_all(fd, message.data(), message.size());
    if (round.echo && !read_all(fd, message.data(), message.size())) die("the server is gone");
  }
  if (!round.echo && !read_all(fd, message.data(), 1)) die("the server is gone");
  double took = now() - start;
  printf("result %llu %.9f\n", static_cast<unsigned long long>(round.echo ? count : count * round.size), took);
  fflush(stdout);
}

int client(const char* address, const char* port) {
  int fd = connect_to(address, port);
  puts("connected");
  fflush(stdout);
  char line[128];
  while (fgets(line, sizeof line, stdin)) {
    unsigned size = 0;
    double seconds = 0;
    unsigned long long bytes = 0;
    if (sscanf(line, "pingpong %u %lf", &size, &seconds) == 2) play(fd, {1, size}, seconds, 0);
    else if (sscanf(line, "stream %u %lf", &size, &seconds) == 2) play(fd, {0, size}, seconds, 0);
    else if (sscanf(line, "send %llu", &bytes) == 1) play(fd, {0, 65536}, 0, bytes);
    else die(line);
  }
  return 0;
}

// A reply of Redis to INCR is one short line; there is never more than one outstanding.
void ask(int fd) {
  static const char kCommand[] = "*2\r\n$4\r\nINCR\r\n$5\r\nbench\r\n";
  write_all(fd, kCommand, sizeof kCommand - 1);
}

int watch(const char* address, const char* port) {
  constexpr useconds_t kPause = 200;  // us; so that watching does not take a processor
  int fd = connect_to(address, port);
  puts("connected");
  fflush(stdout);
  double last = now(), longest = 0;
  bool asked = false;
  for (;;) {
    if (!asked) ask(fd);
    asked = true;
    pollfd set[2] = {{fd, POLLIN, 0}, {0, POLLIN, 0}};
    if (poll(set, 2, -1) < 0) die("poll");
    char reply[256];
    if (set[0].revents) {
      ssize_t n = recv(fd, reply, sizeof reply, 0);
      if (n <= 0) die("the server is gone");
      if (reply[n - 1] == '\n') {
        double time = now();
        longest = std::max(longest, time - last);
        last = time;
        asked = false;
        usleep(kPause);
      }
    }
    if (set[1].revents) {
      ssize_t n = read(0, reply, sizeof reply);
      if (n <= 0) return 0;
      printf("longest %.6f\n", longest * 1e3);
      fflush(stdout);
      longest = 0;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string mode = argc == 4 ? argv[1] : "";
  if (mode == "serve") return serve(argv[2], argv[3]);
  if (mode == "client") return client(argv[2], argv[3]);
  if (mode == "watch") return watch(argv[2], argv[3]);
  fputs("usage: sockets serve|client|watch ADDRESS PORT\n", stderr);
  return 2;
}
