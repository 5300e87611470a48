// ZeroMQ with its errors as values. The only file that catches zmq's exceptions.
//
// What must stay true: a Socket belongs to one thread; a Context may be used by any. Sockets never
// linger and never block: what does not fit now is refused, and the caller's retry makes it good.
// CURVE sockets use the community's key on both sides, and the ZAP handler admits that key alone.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/node/home.hh"
#include "tuplespace/node/loop.hh"
#include "tuplespace/result.hh"

namespace godwit {

CommunityKey make_key_pair();
bool key_pair_matches(const std::string& public_key, const std::string& secret_key);
/// Whether that could be one, in Z85.
bool is_public_key(const std::string& key);

using Frames = std::vector<std::string>;

class Socket {
 public:
  Socket(Socket&&) noexcept;
  Socket& operator=(Socket&&) noexcept;
  ~Socket();

  /// Returns the endpoint as bound, with its real port.
  Result<std::string> bind(const std::string& endpoint);
  Result<void> connect(const std::string& endpoint);
  /// False: not now (queue full, or a ROUTER's peer is gone); nothing was sent.
  bool send(const Frames& frames);
  /// The next whole message, if one is here. Never waits.
  std::optional<Frames> receive();
  /// Waits for a message until the deadline.
  std::optional<Frames> receive(Loop::Clock::time_point deadline);
  bool readable() const;
  /// Becomes readable (edge-like) when readable() may have changed: call readable() after each event
  /// and after each send.
  int fd() const;

 private:
  friend class Transport;
  struct Body;
  explicit Socket(std::unique_ptr<Body> body);
  std::unique_ptr<Body> body_;
};

/// A ZeroMQ context and the key that its CURVE sockets use.
class Transport {
 public:
  explicit Transport(CommunityKey key);
  ~Transport();
  Transport(const Transport&) = delete;

  enum class Security { kCurve, kNone };  // kNone: for ipc in a folder that only we can enter
  Result<Socket> router(Security security);
  Result<Socket> dealer(Security security);

  /// Answers ZAP requests from now on, in the loop's thread. Before the first CURVE router is bound.
  Result<void> admit_community(Loop& loop);

 private:
  struct Body;
  std::unique_ptr<Body> body_;
};

/// Calls `on_message` for every message that comes to `socket`, from the loop. The watcher borrows the
/// socket and must go first, but not inside of `on_message`.
class SocketWatcher {
 public:
  SocketWatcher(Loop& loop, Socket& socket, std::function<void(Frames)> on_message);
  ~SocketWatcher();
  SocketWatcher(const SocketWatcher&) = delete;

 private:
  bool drain();
  Loop& loop_;
  Socket& socket_;
  std::function<void(Frames)> on_message_;
  uint64_t prepare_;
  uint64_t asked_at_ = 0;  // 0: its descriptor has signalled since
  int fd_;
};

}  // namespace godwit
