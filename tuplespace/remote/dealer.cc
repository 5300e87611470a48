#include "tuplespace/remote/dealer.hh"

#include <atomic>
#include <cstring>

namespace godwit {
namespace {

constexpr int64_t kMaxMessage = int64_t{1} << 30;
constexpr int kHandshakeMilliseconds = 10'000, kReconnectMilliseconds = 50, kReconnectMaxMilliseconds = 1000;

Error zmq_error(const std::string& what) {
  return Error{std::error_code(zmq_errno(), std::generic_category()), what};
}

int descriptor(void* socket) {
  int fd = -1;
  size_t size = sizeof fd;
  zmq_getsockopt(socket, ZMQ_FD, &fd, &size);
  return fd;
}

struct Part {
  Part() { zmq_msg_init(&message); }
  ~Part() { zmq_msg_close(&message); }
  std::string_view bytes() { return {static_cast<const char*>(zmq_msg_data(&message)), zmq_msg_size(&message)}; }
  zmq_msg_t message;
};

}  // namespace

DealerContext::DealerContext() : context_(zmq_ctx_new()) { GODWIT_CHECK(context_); }

Result<std::unique_ptr<Dealer>> Dealer::connect(DealerContext& context, const ClientKey& key) {
  static std::atomic<uint64_t> made;
  void* socket = zmq_socket(context.context_, ZMQ_DEALER);
  if (!socket) return zmq_error("making a ZeroMQ socket");
  auto set = [&](int option, int value) { zmq_setsockopt(socket, option, &value, sizeof value); };
  set(ZMQ_LINGER, 0);
  set(ZMQ_SNDHWM, 0);  // the connection bounds what is under way
  set(ZMQ_RCVHWM, 0);
  set(ZMQ_HANDSHAKE_IVL, kHandshakeMilliseconds);
  set(ZMQ_RECONNECT_IVL, kReconnectMilliseconds);
  set(ZMQ_RECONNECT_IVL_MAX, kReconnectMaxMilliseconds);
  set(ZMQ_IPV6, key.address.front() == '[');
  zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &kMaxMessage, sizeof kMaxMessage);
  zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, key.server.c_str(), 41);
  zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, key.public_key.c_str(), 41);
  zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, key.secret_key.c_str(), 41);
  std::string events = "inproc://godwit-events-" + std::to_string(++made);
  void* monitor = zmq_socket(context.context_, ZMQ_PAIR);
  std::unique_ptr<Dealer> dealer(new Dealer(socket, monitor));
  if (!monitor || zmq_socket_monitor(socket, events.c_str(), ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_DISCONNECTED) != 0 ||
      zmq_connect(monitor, events.c_str()) != 0 || zmq_connect(socket, ("tcp://" + key.address).c_str()) != 0)
    return zmq_error("connecting to " + key.address);
  return dealer;
}

Dealer::Dealer(void* socket, void* monitor)
    : socket_(socket), monitor_(monitor), fd_(descriptor(socket)), monitor_fd_(monitor ? descriptor(monitor) : -1) {}

Dealer::~Dealer() {
  zmq_socket_monitor(socket_, nullptr, 0);
  if (monitor_) zmq_close(monitor_);
  zmq_close(socket_);
}

bool Dealer::send(std::string_view protocol, std::string_view head, std::string_view body) {
  if (zmq_send(socket_, protocol.data(), protocol.size(), ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) return false;
  zmq_msg_t message;
  GODWIT_CHECK(zmq_msg_init_size(&message, head.size() + body.size()) == 0);
  auto* to = static_cast<char*>(zmq_msg_data(&message));
  to += head.copy(to, head.size());
  body.copy(to, body.size());
  if (zmq_msg_send(&message, socket_, ZMQ_DONTWAIT) >= 0) return true;
  zmq_msg_close(&message);
  return false;
}

std::optional<std::string> Dealer::receive(std::string_view protocol) {
  for (;;) {
    Part first, last;
    if (zmq_msg_recv(&first.message, socket_, ZMQ_DONTWAIT) < 0) return std::nullopt;
    int parts = 1;
    for (bool more = zmq_msg_more(&first.message); more; more = zmq_msg_more(&last.message), ++parts)
      if (zmq_msg_recv(&last.message, socket_, ZMQ_DONTWAIT) < 0) return std::nullopt;
    if (parts == 2 && first.bytes() == protocol) return std::string(last.bytes());
  }
}

// An event is two frames, its number and value, and the endpoint.
Dealer::Events Dealer::events() {
  Events events;
  for (Part part; zmq_msg_recv(&part.message, monitor_, ZMQ_DONTWAIT) >= 0;) {
    uint16_t event = 0;
    if (!zmq_msg_more(&part.message) || part.bytes().size() < sizeof event) continue;
    std::memcpy(&event, part.bytes().data(), sizeof event);
    events.refused |= event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
    events.lost |= event == ZMQ_EVENT_DISCONNECTED;
  }
  return events;
}

}  // namespace godwit
