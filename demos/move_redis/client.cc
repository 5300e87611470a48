// A client that notices everything: keeps WINDOW requests of about 1 KB outstanding on one connection to a Redis
// server, and checks every reply. It knows nothing of Godwit.
//
//   client ADDRESS PORT NAME SEED WINDOW STOP_FILE
//
// Each request is GETSET NAME <value n>, so each reply must be exactly value n - 1: a request that was lost or
// executed twice shows in the next reply. Prints, flushed as it happens:
//   connected
//   gap START_MS LENGTH_MS      no reply for longer than a millisecond (CLOCK_MONOTONIC)
//   done OPERATIONS ERRORS LOST REPEATED same_id=1|0
// Ends when STOP_FILE exists, after the last outstanding reply.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr size_t kValue = 1000;      // bytes
constexpr double kGap = 1.0;         // ms
constexpr double kPatience = 60000;  // ms without any reply: the connection is lost

double now_ms() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

std::string value(const std::string& name, unsigned seed, unsigned long n) {
  std::string v = name + ":" + std::to_string(n) + ":";
  unsigned x = seed + static_cast<unsigned>(n) * 2654435761u;
  while (v.size() < kValue) {
    x = x * 1664525 + 1013904223;
    v += static_cast<char>('a' + (x >> 24) % 26);
  }
  return v;
}

std::string command(std::initializer_list<std::string> words) {
  std::string out = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& w : words) out += "$" + std::to_string(w.size()) + "\r\n" + w + "\r\n";
  return out;
}

class Client {
 public:
  Client(const char* name, unsigned seed, unsigned long window, const char* stop)
      : name_(name), seed_(seed), window_(window), stop_(stop) {}

  bool connect_to(const char* address, int port) {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(static_cast<uint16_t>(port));
    if (inet_pton(AF_INET, address, &a.sin_addr) != 1) return false;
    if (connect(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0) return false;
    int one = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return true;
  }

  int run() {
    out_ = command({"CLIENT", "ID"});
    std::string first_id = reply();
    out_ += command({"SET", name_, value(name_, seed_, 0)});
    if (reply() != "OK") return broken("the first SET failed");
    puts("connected");
    fflush(stdout);
    last_ = now_ms();
    while (!stopping_ || done_ < sent_) {
      if (!stopping_ && done_ % 64 == 0) stopping_ = access(stop_, F_OK) == 0;
      while (!stopping_ && sent_ - done_ < window_) {
        ++sent_;
        out_ += command({"GETSET", name_, value(name_, seed_, sent_)});
      }
      if (done_ == sent_) break;
      check(reply());
      if (failed_) break;
    }
    bool same = false;
    if (!failed_) {
      out_ += command({"CLIENT", "ID"});
      same = reply() == first_id;
    }
    printf("done %lu %lu %lu %lu same_id=%d\n", done_, errors_, lost_, repeated_, same);
    return errors_ || lost_ || repeated_ || !same;
  }

 private:
  void check(const std::string& got) {
    if (failed_) return;
    double now = now_ms();
    if (now - last_ > kGap) {
      printf("gap %.3f %.3f\n", last_, now - last_);
      fflush(stdout);
    }
    last_ = now;
    const std::string want = value(name_, seed_, done_);
    ++done_;
    if (got == want) return;
    unsigned long n = 0;
    if (sscanf(got.c_str() + std::min(got.size(), name_.size() + 1), "%lu", &n) == 1 && n != done_ - 1) {
      ++(n < done_ - 1 ? lost_ : repeated_);
    } else {
      ++errors_;
    }
    fprintf(stderr, "%s: reply %lu is wrong: %.40s\n", name_.c_str(), done_, got.c_str());
  }

  int broken(const char* why) {
    fprintf(stderr, "%s: %s: %s\n", name_.c_str(), why, strerror(errno));
    printf("done %lu %lu 0 0 same_id=0\n", done_, errors_ + 1);
    return 1;
  }

  // One whole reply: a simple string, an integer or a bulk string.
  std::string reply() {
    for (;;) {
      size_t line = in_.find("\r\n", begin_);
      if (line != std::string::npos) {
        std::string head = in_.substr(begin_ + 1, line - begin_ - 1);
        char kind = in_[begin_];
        if (kind != '$') {
          begin_ = line + 2;
          if (kind == '-') ++errors_;
          return head;
        }
        size_t length = strtoul(head.c_str(), nullptr, 10);
        if (in_.size() >= line + 2 + length + 2) {
          std::string body = in_.substr(line + 2, length);
          begin_ = line + 2 + length + 2;
          return body;
        }
      }
      if (!exchange()) return "";
    }
  }

  // Sends what can be sent and waits for bytes.
  bool exchange() {
    in_.erase(0, begin_);
    begin_ = 0;
    for (;;) {
      pollfd p{fd_, static_cast<short>(POLLIN | (out_.empty() ? 0 : POLLOUT)), 0};
      if (poll(&p, 1, static_cast<int>(kPatience)) <= 0) return fail("no reply");
      if (p.revents & POLLOUT) {
        ssize_t n = send(fd_, out_.data(), out_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return fail("send");
        if (n > 0) out_.erase(0, static_cast<size_t>(n));
      }
      if (p.revents & (POLLIN | POLLHUP | POLLERR)) {
        char bytes[65536];
        ssize_t n = recv(fd_, bytes, sizeof bytes, 0);
        if (n <= 0) return fail(n == 0 ? "the connection ended" : "recv");
        in_.append(bytes, static_cast<size_t>(n));
        return true;
      }
    }
  }

  bool fail(const char* why) {
    fprintf(stderr, "%s: %s: %s\n", name_.c_str(), why, strerror(errno));
    failed_ = true;
    ++errors_;
    return false;
  }

  std::string name_;
  unsigned seed_;
  unsigned long window_;
  const char* stop_;
  int fd_ = -1;
  std::string in_, out_;
  size_t begin_ = 0;  // of what is not yet taken from in_
  unsigned long sent_ = 0, done_ = 0, errors_ = 0, lost_ = 0, repeated_ = 0;
  double last_ = 0;
  bool stopping_ = false, failed_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    fprintf(stderr, "usage: client ADDRESS PORT NAME SEED WINDOW STOP_FILE\n");
    return 2;
  }
  Client client(argv[3], static_cast<unsigned>(atoi(argv[4])), strtoul(argv[5], nullptr, 10), argv[6]);
  if (!client.connect_to(argv[1], atoi(argv[2]))) {
    fprintf(stderr, "%s: connect to %s:%s: %s\n", argv[3], argv[1], argv[2], strerror(errno));
    return 1;
  }
  return client.run();
}
