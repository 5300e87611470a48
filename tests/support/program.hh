// Programs as the wrapper plays them, in threads of a test: pods of a segment, their sockets, and how they sleep.
#pragma once
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include "tests/support/segment.hh"
#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/result.hh"
#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/bell.hh"
#include "tuplespace/shared/end_lock.hh"
#include "tuplespace/shared/members.hh"
#include "tuplespace/streams/streams.hh"

namespace godwit::testing {

inline shared::Address loopback(uint16_t port) {
  shared::Address address{};
  address.family = AF_INET;
  address.port = port;
  memcpy(address.bytes, "\x7f\0\0\1", 4);
  return address;
}

/// A thread of a pod that is made with it.
struct Pod {
  Pod(TestSegment& test, uint64_t id) : id(id), host(test.join()) {
    uint32_t member;
    self.segment = test.segment();
    GODWIT_CHECK(shared::add_pod(host, id, &member, &self) == 0);
  }
  ~Pod() {
    shared::release_slot(self);
    shared::release_slot(host);
  }
  uint64_t id;
  shared::Thread host;  // of the host's area, where pods are made
  shared::Thread self;
};

/// One end of a connection.
class ProgramEnd {
 public:
  /// Connects as connect(2) does. Nobody listens there: no socket.
  ProgramEnd(Pod& pod, uint16_t port) : self_(pod.self), side_(0) {
    shared::Listener listener;
    if (!shared::find_listener(self_.segment, loopback(port), &listener)) return;
    shared::Offset offset;
    GODWIT_CHECK(shared::allocate_socket(self_, AF_INET, pod.id, &offset) == 0);
    socket_ = self_.segment.at<shared::Socket>(offset);
    socket_->id = shared::next_connection(self_.segment);
    socket_->listener = listener.id;
    socket_->ends[0].address = loopback(shared::client_port(socket_->id));
    socket_->ends[1].address = loopback(port);
    socket_->ends[1].pod = listener.pod;
    socket_->state.store(shared::SocketState::kConnected, std::memory_order_release);
    shared::publish(self_);
    placeholder_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    Address mine(connection_name(self_.segment, socket_->id, offset)), theirs(listener_name(self_.segment, listener.id));
    GODWIT_CHECK(::bind(placeholder_.get(), mine.get(), mine.length) == 0);
    if (::connect(placeholder_.get(), theirs.get(), theirs.length) != 0) {  // its listener was killed
      shared::intend(self_, offset);
      shared::free_intent(self_);
      socket_ = nullptr;
      return;
    }
    shared::notify_connection(self_);
  }
  /// Accepts.
  ProgramEnd(Pod& pod, const UniqueFd& listener) : self_(pod.self), side_(1) {
    pollfd knock{listener.get(), POLLIN, 0};
    GODWIT_CHECK(::poll(&knock, 1, 20000) == 1);
    auto accepted = accept_at(listener.get(), self_.segment);
    GODWIT_CHECK(accepted);
    placeholder_ = std::move(accepted->placeholder);
    int flags = ::fcntl(placeholder_.get(), F_GETFL);
    ::fcntl(placeholder_.get(), F_SETFL, flags & ~O_NONBLOCK);
    socket_ = self_.segment.at<shared::Socket>(accepted->offset);
    socket_->accepted.store(1);
  }

  shared::Socket* socket() { return socket_; }
  std::string name() const {
    char text[shared::kConnectionText];
    shared::connection_text(socket_->id, text);
    return text;
  }

  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      size_t n = write_some(bytes);
      bytes.remove_prefix(n);
      if (n == 0) sleep([&] {
        out().writer_waits.store(1);
        shared::full_fence();
        return writable(out()) >= shared::kWritable || over();
      });
      if (over()) return;
    }
  }
  size_t write_some(std::string_view bytes) {
    iovec iov{const_cast<char*>(bytes.data()), bytes.size()};
    shared::end_lock(self_, end().write_lock);
    ssize_t n = shared::put(*socket_, side_, &iov, 1);
    shared::end_unlock(self_, end().write_lock);
    if (n > 0) shared::notify(self_, *socket_, 1 - side_, EPOLLIN, placeholder_.get());
    return n > 0 ? static_cast<size_t>(n) : 0;
  }

  /// What there is, waiting for some; empty at the end.
  std::string read(size_t most = shared::kRing) {
    for (;;) {
      bool ended = over();
      std::string bytes = read_some(most);
      if (!bytes.empty() || ended) return bytes;
      sleep([&] { return readable(in()) || over(); });
    }
  }
  std::string read_some(size_t most) {
    std::string bytes(most, 0);
    iovec iov{bytes.data(), most};
    shared::end_lock(self_, end().read_lock);
    bytes.resize(static_cast<size_t>(shared::take(*socket_, side_, &iov, 1, false)));
    shared::end_unlock(self_, end().read_lock);
    if (!bytes.empty()) shared::notify_room(self_, *socket_, side_, placeholder_.get());
    return bytes;
  }
  /// Of n bytes.
  std::string read_all(size_t n) {
    std::string all;
    while (all.size() < n) {
      std::string some = read(n - all.size());
      if (some.empty()) break;
      all += some;
    }
    return all;
  }

  bool is_reset() { return end().flags.load() & shared::kReset; }
  bool sleeps() { return end().sleeper.load() & 1; }
  void finish() {
    out().finished.store(1);
    shared::notify(self_, *socket_, 1 - side_, ~0u, placeholder_.get());
  }
  void close() {
    bool last = shared::close_end(*socket_, side_, false);
    if (!last) shared::notify(self_, *socket_, 1 - side_, ~0u, placeholder_.get());
    placeholder_.reset();
    if (!last) return;
    shared::intend(self_, socket_->offset);
    shared::free_intent(self_);
  }

 private:
  struct Address {
    explicit Address(const shared::Name& name) {
      unix.sun_family = AF_UNIX;
      memcpy(unix.sun_path, name.text, name.length);
      length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.length);
    }
    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&unix); }
    sockaddr_un unix{};
    socklen_t length;
  };
  shared::End& end() { return socket_->ends[side_]; }
  shared::Ring& in() { return socket_->rings[1 - side_]; }
  shared::Ring& out() { return socket_->rings[side_]; }
  bool over() {
    return in().finished.load() || (socket_->ends[1 - side_].flags.load() & (shared::kClosed | shared::kGone)) || is_reset();
  }

  template <class Ready>
  void sleep(Ready ready) {
    uint64_t mine;
    GODWIT_CHECK(shared::take_slot(self_, end(), &turn_, &mine));
    for (shared::full_fence(); !ready(); shared::rearm_slot(self_, end(), &turn_, &mine)) {
      char bells[64];
      if (::recv(placeholder_.get(), bells, sizeof bells, 0) == 0) shared::note_gone(*socket_, side_);
    }
    shared::leave_slot(end());
  }

  shared::Thread& self_;
  uint32_t side_;
  shared::Socket* socket_ = nullptr;
  UniqueFd placeholder_;
  uint32_t turn_ = 0;
};

/// A program's listener.
class ProgramListener {
 public:
  ProgramListener(Pod& pod, uint16_t port) {
    shared::Offset offset;
    uint64_t id;
    shared::Address address = loopback(port);
    GODWIT_CHECK(shared::allocate_socket(pod.self, AF_INET, pod.id, &offset) == 0);
    GODWIT_CHECK(shared::add_listener(pod.self, *pod.self.segment.at<shared::Socket>(offset), &address, pod.id, &id) == 0);
    shared::publish(pod.self);
    auto socket = listen_at(listener_name(pod.self.segment, id));
    GODWIT_CHECK(socket);
    socket_ = std::move(*socket);
  }
  operator const UniqueFd&() const { return socket_; }

 private:
  UniqueFd socket_;
};

}  // namespace godwit::testing
