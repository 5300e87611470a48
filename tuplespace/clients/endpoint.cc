#include "tuplespace/clients/endpoint.hh"

#include <zmq.h>

#include <algorithm>
#include <chrono>
#include <span>
#include <vector>

#include "tuplespace/clients/message.hh"
#include "tuplespace/command/command.hh"

namespace godwit::clients {
namespace {

constexpr int kHandshakeMilliseconds = 10'000;
constexpr int kBacklog = 1024;
constexpr const char* kZapEndpoint = "inproc://zeromq.zap.01";
constexpr const char* kZapDomain = "godwit.clients";

Error zmq_error(const std::string& address) {
  if (errno == EADDRINUSE) return make_error(std::errc::address_in_use, address + " is taken; choose another --clients");
  if (errno == EADDRNOTAVAIL || errno == ENODEV)
    return make_error(std::errc::address_not_available, address + " is not an address of this machine; choose another --clients");
  return errno_error("serving clients at " + address);
}

template <class T>
bool set(void* socket, int option, T value) {
  return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}
bool set(void* socket, int option, const std::string& value) {
  return zmq_setsockopt(socket, option, value.data(), value.size()) == 0;
}

}  // namespace

Result<std::unique_ptr<Endpoint>> Endpoint::open(const CommunityKey& key, const std::string& address, Admits admits) {
  std::unique_ptr<Endpoint> endpoint(new Endpoint);
  endpoint->admits_ = std::move(admits);
  if (auto started = endpoint->start(key, address); !started) return started.error();
  return endpoint;
}

// A client that names itself as another already has is not connected: ROUTER_HANDOVER would let it take the other's answers.
Result<void> Endpoint::start(const CommunityKey& key, const std::string& address) {
  context_ = zmq_ctx_new();
  zap_ = zmq_socket(context_, ZMQ_ROUTER);
  router_ = zmq_socket(context_, ZMQ_ROUTER);
  if (!zap_ || !router_) return errno_error("making ZeroMQ sockets");
  bool fine = set(zap_, ZMQ_LINGER, 0) && zmq_bind(zap_, kZapEndpoint) == 0;
  fine = fine && set(router_, ZMQ_LINGER, 0) && set(router_, ZMQ_MAXMSGSIZE, kLargestMessage) &&
         set(router_, ZMQ_HANDSHAKE_IVL, kHandshakeMilliseconds) && set(router_, ZMQ_BACKLOG, kBacklog) &&
         set(router_, ZMQ_SNDHWM, kQueued) && set(router_, ZMQ_RCVHWM, kQueued) && set(router_, ZMQ_ROUTER_MANDATORY, 1) &&
         set(router_, ZMQ_CURVE_SERVER, 1) && set(router_, ZMQ_CURVE_SECRETKEY, key.secret_key) &&
         set(router_, ZMQ_ZAP_DOMAIN, std::string(kZapDomain)) && set(router_, ZMQ_IPV6, address.find('[') != address.npos ? 1 : 0);
  std::string endpoint = "tcp://" + address;
  if (!fine || zmq_bind(router_, endpoint.c_str()) != 0) return zmq_error(address);
  char bound[256];
  size_t length = sizeof bound;
  if (zmq_getsockopt(router_, ZMQ_LAST_ENDPOINT, bound, &length) != 0) return zmq_error(address);
  address_ = std::string(bound).substr(std::string_view("tcp://").size());
  return {};
}

Endpoint::~Endpoint() {
  if (router_) zmq_close(router_);
  if (zap_) zmq_close(zap_);
  if (context_) zmq_ctx_term(context_);
}

bool Endpoint::wait(std::span<const int> fds, std::chrono::milliseconds time) {
  std::vector<zmq_pollitem_t> items = {{router_, 0, ZMQ_POLLIN, 0}, {zap_, 0, ZMQ_POLLIN, 0}};
  for (int fd : fds) items.push_back({nullptr, fd, ZMQ_POLLIN, 0});
  zmq_poll(items.data(), static_cast<int>(items.size()), time.count());
  return std::any_of(items.begin() + 2, items.end(), [](const zmq_pollitem_t& item) { return item.revents != 0; });
}

// key: what ZAP said of who sent it. False: none is here.
bool Endpoint::receive_frame(void* socket, std::string& frame, std::string* key, bool* more) {
  zmq_msg_t message;
  zmq_msg_init(&message);
  bool got = zmq_msg_recv(&message, socket, ZMQ_DONTWAIT) >= 0;
  if (got) {
    frame.assign(static_cast<const char*>(zmq_msg_data(&message)), zmq_msg_size(&message));
    const char* user = key ? zmq_msg_gets(&message, "User-Id") : nullptr;
    if (key) *key = user ? user : "";
    *more = zmq_msg_more(&message);
  }
  zmq_msg_close(&message);
  return got;
}

bool Endpoint::receive(Incoming& incoming) {
  bool more = false;
  if (!receive_frame(router_, incoming.route, nullptr, &more)) return false;
  incoming.protocol.clear();
  incoming.body.clear();
  incoming.key.clear();
  int frames = 0;
  std::string rest;
  while (more) {
    std::string& frame = frames == 0 ? incoming.protocol : frames == 1 ? incoming.body : rest;
    if (!receive_frame(router_, frame, &incoming.key, &more)) break;
    ++frames;
  }
  incoming.is_whole = frames == 2;
  return true;
}

Endpoint::Sent Endpoint::send(const std::string& route, std::string_view body) {
  auto send = [&](std::string_view frame, int more) {
    return zmq_send(router_, frame.data(), frame.size(), ZMQ_DONTWAIT | more) >= 0;
  };
  if (send(route, ZMQ_SNDMORE) && send(kProtocol, ZMQ_SNDMORE) && send(body, 0)) return Sent::kYes;
  return errno == EAGAIN ? Sent::kFull : Sent::kGone;
}

// ZAP, RFC 27. Frames: identity, "", version, request id, domain, address, identity, mechanism, credentials. Whom the messages
// are of is said by their key, as that User-Id.
void Endpoint::admit() {
  std::vector<std::string> request;
  for (;;) {
    request.clear();
    bool more = true;
    for (std::string frame; more && receive_frame(zap_, frame, nullptr, &more);) request.push_back(frame);
    if (request.size() < 4) return;
    char key[41] = "";
    bool is_ours = request.size() == 9 && request[2] == "1.0" && request[7] == "CURVE" && request[8].size() == 32;
    if (is_ours) zmq_z85_encode(key, reinterpret_cast<const uint8_t*>(request[8].data()), 32);
    bool admitted = is_ours && admits_(key, request[5]);
    const std::string answer[] = {request[0], "", "1.0", request[3], admitted ? "200" : "400", admitted ? "OK" : "unknown key", admitted ? key : "", ""};
    for (size_t i = 0; i < std::size(answer); ++i)
      zmq_send(zap_, answer[i].data(), answer[i].size(), ZMQ_DONTWAIT | (i + 1 < std::size(answer) ? ZMQ_SNDMORE : 0));
  }
}

}  // namespace godwit::clients
