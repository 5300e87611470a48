// A link between a client and a node that loses connections: a TCP relay that delays what it carries, and cuts connections in
// the middle of it.
#pragma once
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <list>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/result.hh"

namespace godwit::test {

struct LinkFaults {
  size_t cut_after = 0;                 // cuts a connection somewhere within so many bytes; 0: never
  std::chrono::microseconds delay{0};  // of each piece, at most
};

class Link {
 public:
  /// To a port of this host.
  explicit Link(uint16_t target, LinkFaults faults = {}, uint32_t seed = 1) : target_(target), faults_(faults), random_(seed) {
    sockaddr_in any = loopback(0);
    listener_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    socklen_t length = sizeof any;
    GODWIT_CHECK(bind(listener_.get(), reinterpret_cast<sockaddr*>(&any), length) == 0 && listen(listener_.get(), 64) == 0);
    GODWIT_CHECK(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&any), &length) == 0);
    port_ = ntohs(any.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~Link() {
    ends_ = true;
    wake();
    thread_.join();
  }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  /// Cuts what is connected. While it is down, nothing gets through.
  void cut() {
    cuts_ = true;
    wake();
  }
  void set_down(bool down) {
    is_down_ = down;
    wake();
  }
  /// Nothing is delayed nor cut any more.
  void mend() {
    std::lock_guard guard(lock_);
    faults_ = {};
  }
  uint64_t connections() const { return connections_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Piece {
    std::string bytes;
    Clock::time_point due;
  };
  struct Way {
    int from, to;
    std::deque<Piece> pieces;
  };
  struct Pair {
    UniqueFd client, node;
    Way ways[2];
    size_t left;  // bytes until it is cut
    bool is_over = false;
  };

  static sockaddr_in loopback(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  void wake() { eventfd_write(wake_.get(), 1); }

  void run() {
    while (!ends_) {
      std::vector<pollfd> polled = {{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
      auto until = Clock::time_point::max();
      for (Pair& pair : pairs_)
        for (Way& way : pair.ways) {
          bool open = !is_down_;
          polled.push_back({way.from, static_cast<short>(open && way.pieces.size() < 64 ? POLLIN : 0), 0});
          if (open && !way.pieces.empty()) until = std::min(until, way.pieces.front().due);
        }
      int limit = -1;
      if (until != Clock::time_point::max())
        limit = std::max(0, static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count()));
      poll(polled.data(), polled.size(), limit);
      eventfd_t rings;
      if (polled[0].revents) eventfd_read(wake_.get(), &rings);
      if (cuts_.exchange(false)) pairs_.clear();
      else carry(polled);
      if (polled[1].revents & POLLIN) accept_one();
    }
  }

  void carry(const std::vector<pollfd>& polled) {
    size_t i = 2;
    for (Pair& pair : pairs_)
      for (Way& way : pair.ways) {
        short events = polled[i++].revents;
        if (is_down_) pair.is_over |= (events & (POLLERR | POLLHUP)) != 0;
        else if (events) read_piece(pair, way);
        if (!is_down_) write_pieces(pair, way);
      }
    pairs_.remove_if([](const Pair& pair) { return pair.is_over; });
  }

  void read_piece(Pair& pair, Way& way) {
    char buffer[16384];
    ssize_t got = recv(way.from, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return void(pair.is_over = true);
    Clock::duration delay{0};
    {
      std::lock_guard guard(lock_);
      if (faults_.delay.count() > 0) delay = std::chrono::microseconds(random_() % static_cast<uint64_t>(faults_.delay.count()));
      if (faults_.cut_after == 0) pair.left = ~size_t{0};
    }
    auto size = std::min(static_cast<size_t>(got), pair.left);
    way.pieces.push_back({std::string(buffer, size), Clock::now() + delay});
    pair.left -= size;
  }

  void write_pieces(Pair& pair, Way& way) {
    for (; !way.pieces.empty() && way.pieces.front().due <= Clock::now(); way.pieces.pop_front()) {
      const std::string& bytes = way.pieces.front().bytes;
      for (size_t sent = 0; sent < bytes.size();) {
        pollfd writable{way.to, POLLOUT, 0};
        poll(&writable, 1, -1);
        ssize_t put = send(way.to, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0 && errno != EAGAIN) return void(pair.is_over = true);
        if (put > 0) sent += static_cast<size_t>(put);
      }
    }
    if (pair.left == 0 && pair.ways[0].pieces.empty() && pair.ways[1].pieces.empty()) pair.is_over = true;
  }

  void accept_one() {
    UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client.valid() || is_down_) return;
    UniqueFd node(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in to = loopback(target_);
    if (connect(node.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) return;
    linger reset{1, 0};
    int yes = 1;
    for (int fd : {client.get(), node.get()}) {
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    }
    std::lock_guard guard(lock_);
    size_t left = faults_.cut_after ? 1 + random_() % faults_.cut_after : ~size_t{0};
    int a = client.get(), b = node.get();
    pairs_.push_back({std::move(client), std::move(node), {{a, b, {}}, {b, a, {}}}, left});
    ++connections_;
  }

  const uint16_t target_;
  uint16_t port_ = 0;
  std::mutex lock_;
  LinkFaults faults_;            // under lock_
  std::mt19937 random_;         // under lock_
  UniqueFd listener_;
  const UniqueFd wake_{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::list<Pair> pairs_;       // the thread's
  std::atomic<bool> ends_ = false, cuts_ = false, is_down_ = false;
  std::atomic<uint64_t> connections_ = 0;
  std::thread thread_;
};

}  // namespace godwit::test
