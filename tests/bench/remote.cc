// Measures spaces of another host against their peers. It is told what to do by lines, so that tests/bench/run takes both sides in
// turn:
//   bench_remote latency|pipelined KEY     ->  ready
//   ours | peer                            ->  result VALUE [VALUE...]
// latency: microseconds of a rdp, and of an out (until it is done), against an echo of the same bytes by bare ZeroMQ under CURVE, server and client
// each in a process. pipelined: outs of 64 bytes a second by one thread, against LPUSH pipelined to Redis over TCP.
#include <arpa/inet.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "tuplespace/space.hh"

namespace {

using namespace godwit;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double us_each(int number, const std::function<void(int)>& operation) {
  auto start = Clock::now();
  for (int i = 0; i < number; ++i) operation(i);
  return seconds_since(start) * 1e6 / number;
}

void check(bool fine, const char* what) {
  if (fine) return;
  std::perror(what);
  std::exit(1);
}

/// A process that ends with this one.
template <class F>
pid_t process(F f) {
  pid_t pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  f();
  _exit(0);
}

// ---- Peers

// An echo by bare ZeroMQ.
class Echo {
 public:
  Echo() {
    char server_public[41], server_secret[41], client_public[41], client_secret[41];
    check(zmq_curve_keypair(server_public, server_secret) == 0 && zmq_curve_keypair(client_public, client_secret) == 0, "zmq_curve_keypair");
    int ends[2];
    check(pipe(ends) == 0, "pipe");
    process([&] { serve(server_secret, ends[1]); });
    char endpoint[256];
    check(read(ends[0], endpoint, sizeof endpoint) > 0, "read");
    dealer_ = zmq_socket(zmq_ctx_new(), ZMQ_DEALER);
    zmq_setsockopt(dealer_, ZMQ_CURVE_SERVERKEY, server_public, 41);
    zmq_setsockopt(dealer_, ZMQ_CURVE_PUBLICKEY, client_public, 41);
    zmq_setsockopt(dealer_, ZMQ_CURVE_SECRETKEY, client_secret, 41);
    check(zmq_connect(dealer_, endpoint) == 0, "zmq_connect");
  }
  void ask(std::string_view request) {
    char answer[1024];
    zmq_send(dealer_, "GC1", 3, ZMQ_SNDMORE);
    zmq_send(dealer_, request.data(), request.size(), 0);
    zmq_recv(dealer_, answer, sizeof answer, 0);
    zmq_recv(dealer_, answer, sizeof answer, 0);
  }

 private:
  [[noreturn]] static void serve(const char* secret, int to) {
    void* router = zmq_socket(zmq_ctx_new(), ZMQ_ROUTER);
    int yes = 1;
    zmq_setsockopt(router, ZMQ_CURVE_SERVER, &yes, sizeof yes);
    zmq_setsockopt(router, ZMQ_CURVE_SECRETKEY, secret, 41);
    check(zmq_bind(router, "tcp://127.0.0.1:*") == 0, "zmq_bind");
    char endpoint[256] = {};
    size_t length = sizeof endpoint;
    zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, endpoint, &length);
    check(write(to, endpoint, sizeof endpoint) == sizeof endpoint, "write");
    for (;;) {
      zmq_msg_t part;
      int more = 1;
      while (more) {
        zmq_msg_init(&part);
        zmq_msg_recv(&part, router, 0);
        more = zmq_msg_more(&part);
        zmq_msg_send(&part, router, more ? ZMQ_SNDMORE : 0);
      }
    }
  }
  void* dealer_;
};

// Redis over TCP, and a thread that reads its answers, each of `:N\r\n`, while another writes.
class Redis {
 public:
  Redis() {
    int chosen = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t length = sizeof address_;
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(bind(chosen, reinterpret_cast<sockaddr*>(&address_), length) == 0 &&
              getsockname(chosen, reinterpret_cast<sockaddr*>(&address_), &length) == 0, "bind");
    close(chosen);
    std::string port = std::to_string(ntohs(address_.sin_port));
    process([&] {
      if (!freopen("/dev/null", "w", stdout)) _exit(127);
      execlp("redis-server", "redis-server", "--port", port.c_str(), "--save", "", "--appendonly", "no", nullptr);
    });
    do fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    while (connect(fd_, reinterpret_cast<sockaddr*>(&address_), sizeof address_) != 0 && close(fd_) == 0);
  }
  void pipeline(std::string_view request, int number) {
    std::thread reader([&] {
      char answers[65536];
      for (int left = number; left > 0;) {
        ssize_t got = read(fd_, answers, sizeof answers);
        check(got > 0, "read");
        for (ssize_t i = 0; i < got; ++i) left -= answers[i] == '\n';
      }
    });
    std::string batch;
    for (int i = 0; i < number; ++i) {
      batch.append(request);
      if (batch.size() < 32 << 10 && i + 1 < number) continue;
      for (size_t sent = 0; sent < batch.size();) {
        ssize_t put = write(fd_, batch.data() + sent, batch.size() - sent);
        check(put > 0, "write");
        sent += static_cast<size_t>(put);
      }
      batch.clear();
    }
    reader.join();
  }
  void forget() { pipeline("*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n", 1); }

 private:
  sockaddr_in address_{};
  int fd_;
};

// ---- The benches

constexpr const char* kSpace = "bench";
constexpr const char* kPayload = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";  // 64 bytes

struct Bench {
  std::function<std::string(Space& space)> ours;
  std::function<std::string()> peer;
};

Bench latency() {
  constexpr int kNumber = 2000;
  auto ours = [](Space& space) {
    space.out("k", 1, kPayload);
    double rdp = us_each(kNumber, [&](int) { space.rdp("k", 1, formal<std::string>); });
    return std::to_string(rdp) + " " + std::to_string(us_each(kNumber, [&](int i) { space.out("o", i); }));
  };
  auto peer = [echo = std::make_shared<Echo>()] {
    return std::to_string(us_each(kNumber, [&](int) { echo->ask(std::string("a request of as many bytes as ours ") + kPayload); }));
  };
  return {ours, peer};
}

Bench pipelined() {
  constexpr int kNumber = 200'000;
  auto ours = [](Space& space) {
    auto start = Clock::now();
    for (int i = 1; i < kNumber; ++i) space.out_async("k", kPayload);
    space.out_async("k", kPayload).get();  // they are done in their order
    return std::to_string(kNumber / seconds_since(start));
  };
  auto peer = [redis = std::make_shared<Redis>()] {
    std::string push = std::string("*3\r\n$5\r\nLPUSH\r\n$1\r\nk\r\n$64\r\n") + kPayload + "\r\n";
    auto start = Clock::now();
    redis->pipeline(push, kNumber);
    std::string rate = std::to_string(kNumber / seconds_since(start));
    redis->forget();
    return rate;
  };
  return {ours, peer};
}

}  // namespace

int main(int argc, char** argv) {
  std::string name = argc == 3 ? argv[1] : "";
  if (name != "latency" && name != "pipelined") {
    std::fprintf(stderr, "usage: bench_remote latency|pipelined KEY; tests/bench/run does that\n");
    return 2;
  }
  try {
    Bench bench = name == "latency" ? latency() : pipelined();
    std::printf("ready\n");
    std::fflush(stdout);
    for (char line[64]; std::fgets(line, sizeof line, stdin);) {
      std::string result;
      if (std::strcmp(line, "ours\n") == 0) {
        Space space = Space::create(kSpace, {}, argv[2]);
        result = bench.ours(space);
        Space::drop(kSpace, argv[2]);
      } else {
        result = bench.peer();
      }
      std::printf("result %s\n", result.c_str());
      std::fflush(stdout);
    }
  } catch (const Failure& failure) {
    std::fprintf(stderr, "bench_remote: %s\n", failure.what());
    return 1;
  }
}
