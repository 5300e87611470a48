#include "tuplespace/node/transport.hh"

#include <cstring>
#include <functional>
#include <zmq.hpp>

namespace godwit {
namespace {

constexpr int64_t kMaxMessage = int64_t{64} << 20;  // bytes of one frame from a peer
constexpr int kHandshakeMilliseconds = 10'000;
constexpr const char* kZapEndpoint = "inproc://zeromq.zap.01";
constexpr const char* kZapDomain = "godwit";
constexpr int kBatch = 64;  // messages handled before the loop looks elsewhere

Error zmq_failure(const zmq::error_t& error, const std::string& what) {
  return Error{std::error_code(error.num(), std::generic_category()), what};
}

std::string decode_key(const std::string& z85) {
  uint8_t bytes[32];
  if (z85.size() != 40 || !zmq_z85_decode(bytes, z85.c_str())) return {};
  return std::string(reinterpret_cast<char*>(bytes), sizeof bytes);
}

}  // namespace

CommunityKey make_key_pair() {
  char public_key[41], secret_key[41];
  GODWIT_CHECK(zmq_curve_keypair(public_key, secret_key) == 0);
  return CommunityKey{public_key, secret_key};
}

bool key_pair_matches(const std::string& public_key, const std::string& secret_key) {
  char derived[41];
  if (secret_key.size() != 40 || zmq_curve_public(derived, secret_key.c_str()) != 0) return false;
  return public_key == derived;
}

bool is_public_key(const std::string& key) { return !decode_key(key).empty(); }

struct Socket::Body {
  zmq::socket_t socket;
};

Socket::Socket(std::unique_ptr<Body> body) : body_(std::move(body)) {}
Socket::Socket(Socket&&) noexcept = default;
Socket& Socket::operator=(Socket&&) noexcept = default;
Socket::~Socket() = default;

Result<std::string> Socket::bind(const std::string& endpoint) {
  try {
    if (endpoint.find('[') != std::string::npos) body_->socket.set(zmq::sockopt::ipv6, true);
    body_->socket.bind(endpoint);
    return body_->socket.get(zmq::sockopt::last_endpoint);
  } catch (const zmq::error_t& error) {
    return zmq_failure(error, "listening on " + endpoint);
  }
}

Result<void> Socket::connect(const std::string& endpoint) {
  try {
    if (endpoint.find('[') != std::string::npos) body_->socket.set(zmq::sockopt::ipv6, true);
    body_->socket.connect(endpoint);
    return {};
  } catch (const zmq::error_t& error) {
    return zmq_failure(error, "connecting to " + endpoint);
  }
}

namespace {
thread_local uint64_t uses = 1;  // of this thread's sockets; never 0
}  // namespace

bool Socket::send(const Frames& frames) {
  ++uses;
  try {
    for (size_t i = 0; i < frames.size(); ++i) {
      auto flags = zmq::send_flags::dontwait;
      if (i + 1 < frames.size()) flags = flags | zmq::send_flags::sndmore;
      if (!body_->socket.send(zmq::buffer(frames[i]), flags)) return false;
    }
    return true;
  } catch (const zmq::error_t&) {
    return false;  // EHOSTUNREACH: a ROUTER's peer is gone
  }
}

std::optional<Frames> Socket::receive() {
  ++uses;
  Frames frames;
  try {
    zmq::message_t part;
    do {
      if (!body_->socket.recv(part, zmq::recv_flags::dontwait)) return std::nullopt;
      frames.emplace_back(static_cast<const char*>(part.data()), part.size());
    } while (part.more());
    return frames;
  } catch (const zmq::error_t&) {
    return std::nullopt;
  }
}

std::optional<Frames> Socket::receive(Loop::Clock::time_point deadline) {
  for (;;) {
    if (auto frames = receive()) return frames;
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Loop::Clock::now());
    if (left.count() <= 0) return std::nullopt;
    zmq_pollitem_t item{body_->socket.handle(), 0, ZMQ_POLLIN, 0};
    zmq_poll(&item, 1, left.count());
  }
}

bool Socket::readable() const {
  try {
    return (body_->socket.get(zmq::sockopt::events) & ZMQ_POLLIN) != 0;
  } catch (const zmq::error_t&) {
    return false;
  }
}

int Socket::fd() const { return body_->socket.get(zmq::sockopt::fd); }

struct Transport::Body {
  zmq::context_t context{1};
  CommunityKey key;
  std::string public_bytes;
  std::unique_ptr<Socket> zap;
  std::unique_ptr<SocketWatcher> zap_watcher;

  Socket make(zmq::socket_type type) {
    auto body = std::make_unique<Socket::Body>(Socket::Body{zmq::socket_t(context, type)});
    body->socket.set(zmq::sockopt::linger, 0);
    body->socket.set(zmq::sockopt::maxmsgsize, kMaxMessage);
    body->socket.set(zmq::sockopt::handshake_ivl, kHandshakeMilliseconds);
    return Socket(std::move(body));
  }
  static zmq::socket_t& raw(Socket& socket) { return socket.body_->socket; }
};

Transport::Transport(CommunityKey key) : body_(std::make_unique<Body>()) {
  body_->key = std::move(key);
  body_->public_bytes = decode_key(body_->key.public_key);
}

Transport::~Transport() = default;

Result<Socket> Transport::router(Security security) {
  try {
    Socket socket = body_->make(zmq::socket_type::router);
    auto& raw = socket.body_->socket;
    // A peer that comes back under its name is served, and a reply to a gone peer is an error, not
    // a silence: a default ROUTER stayed mute for good after a cut.
    raw.set(zmq::sockopt::router_handover, true);
    raw.set(zmq::sockopt::router_mandatory, true);
    if (security == Security::kCurve) {
      raw.set(zmq::sockopt::curve_server, true);
      raw.set(zmq::sockopt::curve_secretkey, body_->key.secret_key);
      raw.set(zmq::sockopt::zap_domain, kZapDomain);
    }
    return socket;
  } catch (const zmq::error_t& error) {
    return zmq_failure(error, "making a ZeroMQ router");
  }
}

Result<Socket> Transport::dealer(Security security) {
  try {
    Socket socket = body_->make(zmq::socket_type::dealer);
    auto& raw = socket.body_->socket;
    raw.set(zmq::sockopt::reconnect_ivl, 50);
    raw.set(zmq::sockopt::reconnect_ivl_max, 1000);
    if (security == Security::kCurve) {
      raw.set(zmq::sockopt::curve_serverkey, body_->key.public_key);
      raw.set(zmq::sockopt::curve_publickey, body_->key.public_key);
      raw.set(zmq::sockopt::curve_secretkey, body_->key.secret_key);
    }
    return socket;
  } catch (const zmq::error_t& error) {
    return zmq_failure(error, "making a ZeroMQ dealer");
  }
}

// ZAP, RFC 27. A ROUTER, not a REP, so that an odd request cannot stop the ones behind it.
// Frames: identity, "", version, request id, domain, address, identity, mechanism, credentials.
Result<void> Transport::admit_community(Loop& loop) {
  body_->zap = std::make_unique<Socket>(body_->make(zmq::socket_type::router));
  if (auto bound = body_->zap->bind(kZapEndpoint); !bound) return bound.error();
  body_->zap_watcher = std::make_unique<SocketWatcher>(loop, *body_->zap, [this](Frames request) {
    if (request.size() < 4) return;
    bool known = request.size() == 9 && request[2] == "1.0" && request[7] == "CURVE" &&
                 request[8] == body_->public_bytes;
    body_->zap->send({request[0], "", "1.0", request[3], known ? "200" : "400",
                      known ? "OK" : "unknown key", known ? "member" : "", ""});
  });
  return {};
}

SocketWatcher::SocketWatcher(Loop& loop, Socket& socket, std::function<void(Frames)> on_message)
    : loop_(loop), socket_(socket), on_message_(std::move(on_message)), fd_(socket.fd()) {
  prepare_ = loop_.add_prepare([this] { return drain(); });
  GODWIT_CHECK(loop_.add_fd(fd_, EPOLLIN, [this](uint32_t) { asked_at_ = 0; }));  // drain runs before each wait
}

SocketWatcher::~SocketWatcher() {
  loop_.remove_prepare(prepare_);
  loop_.remove_fd(fd_);
}

// ZeroMQ's descriptor signals changes, not states, and any use of a socket may swallow its signal. So the truth is
// asked for after each signal and after each use of any socket of this thread; at other times asking would cost the
// loop, which mostly carries bytes, four system calls a turn.
bool SocketWatcher::drain() {
  if (asked_at_ == uses) return false;
  uint64_t now = uses;
  int handled = 0;
  for (; handled < kBatch && socket_.readable(); ++handled) {
    auto message = socket_.receive();
    if (!message) break;
    on_message_(std::move(*message));
  }
  if (handled == 0) asked_at_ = now;
  return handled > 0;
}

}  // namespace godwit
