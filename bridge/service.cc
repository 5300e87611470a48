#include "bridge/service.hh"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>


#include <set>
#include <vector>
#include <span>

#include "tuplespace/command/command.hh"
#include "tuplespace/shared/allocator.hh"

namespace godwit {
namespace {

shared::Address from_native(const sockaddr_storage& storage) {
  shared::Address address{};
  address.family = storage.ss_family;
  if (storage.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
    address.port = ntohs(v4.sin_port);
    memcpy(address.bytes, &v4.sin_addr, 4);
  } else {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
    address.port = ntohs(v6.sin6_port);
    address.scope = v6.sin6_scope_id;
    memcpy(address.bytes, &v6.sin6_addr, 16);
  }
  return address;
}

socklen_t to_native(const shared::Address& address, sockaddr_storage* storage) {
  memset(storage, 0, sizeof *storage);
  storage->ss_family = address.family;
  if (address.family == AF_INET) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(*storage);
    v4.sin_port = htons(address.port);
    memcpy(&v4.sin_addr, address.bytes, 4);
    return sizeof v4;
  }
  auto& v6 = reinterpret_cast<sockaddr_in6&>(*storage);
  v6.sin6_port = htons(address.port);
  v6.sin6_scope_id = address.scope;
  memcpy(&v6.sin6_addr, address.bytes, 16);
  return sizeof v6;
}

shared::Address local_address(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length);
  return from_native(storage);
}

// Reads errno.
Error cannot_publish(const std::string& address, uint16_t port) {
  std::string at = (address.find(':') == std::string::npos ? address : "[" + address + "]") + ":" + std::to_string(port);
  Error error = errno_error("cannot publish at " + at);
  const char* remedy = error.code == std::errc::address_in_use ? "publish another port, or stop what listens there"
                       : error.code == std::errc::permission_denied ? "publish a port from 1024 on"
                       : error.code == std::errc::address_not_available ? "publish at an address of this host"
                                                                        : "publish at another address";
  error.what = error.message() + "; " + remedy;
  return error;
}

// "" is any address.
Result<UniqueFd> listen_on(const std::string& address, uint16_t port) {
  sockaddr_storage storage;
  shared::Address wanted{};
  wanted.port = port;
  wanted.family = address.find(':') == std::string::npos ? AF_INET : AF_INET6;
  if (!address.empty() && inet_pton(wanted.family, address.c_str(), wanted.bytes) != 1)
    return make_error(std::errc::invalid_argument, "cannot publish at " + address + "; give a numeric address");
  socklen_t length = to_native(wanted, &storage);
  UniqueFd fd(::socket(wanted.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  int one = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  constexpr int kBacklog = 4096;
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), length) != 0 || ::listen(fd.get(), kBacklog) != 0)
    return cannot_publish(address, port);
  return fd;
}

std::string port_name(const PublishedPort& port) {
  return "port/" + port.address + "/" + std::to_string(port.port);
}

// The pod's listener at a port, as this host knows it.
const shared::Listener* listener_of(shared::Segment segment, uint64_t pod, uint16_t port) {
  shared::Header& header = segment.header();
  for (uint32_t i = 0; i < header.listener_limit.load(); ++i) {
    const shared::Listener& l = header.listeners[i];
    if (l.state.load() != shared::ListenerState::kFree && l.pod == pod && l.port == port) return &l;
  }
  return nullptr;
}

// A client that cannot be served is told so at once, as by a port where nobody listens.
void turn_away(UniqueFd client) {
  linger now{1, 0};
  setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

}  // namespace

BridgeService::BridgeService(Node& node) : node_(node) {
  node_.serve("bridge.publish", [this](const msgpack::object& params, Reply reply) { publish(params, reply); });
  node_.on_directory_change([this](const Change& change) {
    if (change.published.before && !change.published.after) close(*change.published.before);
  });
  node_.on_start([this] { return start(); });
}

Result<void> BridgeService::start() {
  auto egress = listen_at(listener_name(stream_service(node_).segment(), shared::kEgress));
  if (!egress) return egress.error();
  egress_ = std::move(*egress);
  if (auto added = node_.loop().add_fd(egress_.get(), EPOLLIN, [this](uint32_t) { on_egress(); }); !added) return added;
  StreamService& service = stream_service(node_);
  service.on_kept("outside", [this](Keeper::Held held) {
    auto end = find_end(stream_service(node_).segment(), held.name);
    if (end && held.fds.size() == 2) hold(*end->socket, end->side, std::move(held.fds[0]), std::move(held.fds[1]));
  });
  service.on_kept("port", [this](Keeper::Held held) { take_up_port(std::move(held)); });
  std::set<std::string> kept;
  if (auto list = service.keeper().list())
    for (const Keeper::Held& held : *list) kept.insert(held.name);
  for (const PublishedPort& port : node_.directory().published()) {
    if (port.host != node_.host_name() || kept.contains(port_name(port))) continue;
    if (auto opened = open(port); !opened)  // taken meanwhile: the others are served
      fprintf(stderr, "godwit node: %s\n", opened.error().message().c_str());
  }
  return {};
}

// A port that an earlier node has published: clients may be waiting at it.
void BridgeService::take_up_port(Keeper::Held held) {
  for (const PublishedPort& port : node_.directory().published())
    if (port.host == node_.host_name() && port_name(port) == held.name && held.fds.size() == 1)
      return static_cast<void>(serve(port, std::move(held.fds[0])));
  (void)stream_service(node_).keeper().drop(held.name);
}

// --- outside clients of wrapped servers ----------------------------------------------------------------

void BridgeService::publish(const msgpack::object& params, Reply reply) {
  PublishedPort port;
  port.host = node_.host_name();
  if (auto bad = Fields(params).need("address", port.address, "port", port.port, "pod", port.pod, "pod_port",
                                     port.pod_port))
    return reply.fail(*bad);
  if (auto opened = open(port); !opened) return reply.fail(opened.error());
  if (port.port == 0) {  // the kernel has chosen
    auto entry = published_.extract({port.address, 0});
    node_.loop().remove_fd(entry.mapped().listener.get());
    port.port = local_address(entry.mapped().listener.get()).port;
    if (auto served = serve(port, std::move(entry.mapped().listener)); !served) return reply.fail(served.error());
  }
  node_.submit(port_published(port), [this, port, reply](Result<Packed> done) {
    if (done) return reply.send_value(port.port);
    close(port);
    reply.fail(done.error());
  });
}

Result<void> BridgeService::open(const PublishedPort& port) {
  PortKey key{port.address, port.port};
  if (port.port != 0 && published_.contains(key))
    return errno = EADDRINUSE, cannot_publish(port.address, port.port);
  auto listener = listen_on(port.address, port.port);
  if (!listener) return listener.error();
  return serve(port, std::move(*listener));
}

Result<void> BridgeService::serve(const PublishedPort& port, UniqueFd listener) {
  PortKey key{port.address, port.port};
  int fd = listener.get();
  published_[key] = Published{port, std::move(listener)};
  if (port.port != 0) (void)stream_service(node_).keeper().put(port_name(port), std::span(&fd, 1), {});
  return node_.loop().add_fd(fd, EPOLLIN, [this, key](uint32_t) { on_outside_client(key); });
}

void BridgeService::close(const PublishedPort& port) {
  auto it = published_.find({port.address, port.port});
  if (port.host != node_.host_name() || it == published_.end()) return;
  node_.loop().remove_fd(it->second.listener.get());
  published_.erase(it);
  (void)stream_service(node_).keeper().drop(port_name(port));
}

void BridgeService::on_outside_client(const PortKey& key) {
  for (;;) {
    auto it = published_.find(key);
    if (it == published_.end()) return;
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    UniqueFd client(::accept4(it->second.listener.get(), reinterpret_cast<sockaddr*>(&peer), &length,
                              SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client.valid()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return;
    }
    serve_client(it->second.entry, std::move(client), from_native(peer));
  }
}

void BridgeService::serve_client(const PublishedPort& port, UniqueFd client, const shared::Address& from) {
  StreamService& service = stream_service(node_);
  Streams& streams = service.streams();
  const shared::Listener* listener = listener_of(service.segment(), port.pod, port.pod_port);
  shared::Offset offset;
  if (!listener || shared::allocate_socket(streams.self(), from.family, own_pod(), &offset) != 0)
    return turn_away(std::move(client));
  shared::Socket& socket = streams.at(offset);
  socket.id = shared::next_connection(service.segment());
  socket.listener = listener->id;
  socket.ends[0].address = from;
  socket.ends[0].epoch = 1;
  socket.ends[1].pod = listener->pod;
  socket.ends[1].address = local_address(client.get());
  socket.state.store(shared::SocketState::kConnected);
  shared::publish(streams.self());
  shared::notify_connection(streams.self());
  auto real = std::make_shared<UniqueFd>(std::move(client));
  knock(streams, offset, [this, offset, real](Result<UniqueFd> placeholder) {
    Streams& streams = stream_service(node_).streams();
    if (placeholder) return hold(streams.at(offset), 0, std::move(*placeholder), std::move(*real));
    turn_away(std::move(*real));
    streams.free(streams.at(offset));
  });
}

void BridgeService::hold(shared::Socket& socket, uint32_t side, UniqueFd placeholder, UniqueFd real) {
  uint64_t connection = socket.id;
  StreamService& service = stream_service(node_);
  Streams& streams = service.streams();
  std::string name = end_name("outside", socket, side);
  int both[] = {placeholder.get(), real.get()};
  (void)service.keeper().put(name, both, {});
  auto outside = std::make_unique<Outside>(streams, socket, side, std::move(real),
                                           [this, connection, name] {
                                             (void)stream_service(node_).keeper().drop(name);
                                             outside_.erase(connection);
                                           });
  Outside& made = *outside;
  outside_[connection] = std::move(outside);
  if (!made.start(std::move(placeholder))) outside_.erase(connection);
}

// --- wrapped clients of outside servers ------------------------------------------------------------------

void BridgeService::on_egress() {
  StreamService& service = stream_service(node_);
  while (auto accepted = accept_at(egress_.get(), service.segment())) {
    shared::Socket& socket = service.streams().at(accepted->offset);
    if (socket.id != accepted->connection) continue;
    socket.ends[1].pod = own_pod();
    socket.ends[1].epoch = 1;
    connect_outside(socket, std::move(accepted->placeholder));
  }
}

void BridgeService::connect_outside(shared::Socket& socket, UniqueFd placeholder) {
  sockaddr_storage storage;
  socklen_t length = to_native(socket.ends[1].address, &storage);
  UniqueFd real(::socket(socket.ends[1].address.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!real.valid()) return refuse_program(socket, std::move(placeholder), errno);
  if (::connect(real.get(), reinterpret_cast<sockaddr*>(&storage), length) == 0)
    return connected_outside(socket, std::move(placeholder), std::move(real));
  if (errno != EINPROGRESS) return refuse_program(socket, std::move(placeholder), errno);
  struct Pending {
    UniqueFd placeholder, real;
  };
  auto pending = std::make_shared<Pending>(Pending{std::move(placeholder), std::move(real)});
  (void)node_.loop().add_fd(pending->real.get(), EPOLLOUT, [this, &socket, pending](uint32_t) {
    node_.loop().remove_fd(pending->real.get());
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(pending->real.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) return refuse_program(socket, std::move(pending->placeholder), error);
    connected_outside(socket, std::move(pending->placeholder), std::move(pending->real));
  });
}

void BridgeService::connected_outside(shared::Socket& socket, UniqueFd placeholder, UniqueFd real) {
  socket.ends[0].address = local_address(real.get());
  socket.accepted.store(1);
  Streams& streams = stream_service(node_).streams();
  hold(socket, 1, std::move(placeholder), std::move(real));
  socket.connecting.store(0);
  streams.ring(socket, 1, ~0u);
}

void BridgeService::refuse_program(shared::Socket& socket, UniqueFd placeholder, int error) {
  Streams& streams = stream_service(node_).streams();
  socket.ends[0].error.store(error);
  socket.ends[1].flags.fetch_or(shared::kClosed);
  socket.connecting.store(0);
  shared::notify(streams.self(), socket, 0, ~0u, placeholder.get());
}

void register_bridge(Node& node) {
  static std::vector<BridgeService*>& all = *new std::vector<BridgeService*>;  // never destroyed, as their nodes' streams
  all.push_back(new BridgeService(node));
}

}  // namespace godwit
