#include "tuplespace/streams/service.hh"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/random.h>
#include <sys/un.h>

#include <algorithm>

#include "tuplespace/command/command.hh"
#include "tuplespace/shared/members.hh"
#include "tuplespace/store/spaces_table.hh"
#include "tuplespace/streams/mediator.hh"

namespace godwit {
namespace {

constexpr size_t kTokenSize = 32;
constexpr auto kCallPatience = std::chrono::seconds(3);
constexpr auto kRedial = std::chrono::milliseconds(100);
constexpr auto kMediatorsPause = std::chrono::seconds(1);
constexpr int kUserTimeout = 1000;  // ms: after a cut, a new connection is sooner there than TCP's next try

std::string random_token() {
  std::string token(kTokenSize, 0);
  GODWIT_CHECK(getrandom(token.data(), token.size(), 0) == static_cast<ssize_t>(token.size()));
  return token;
}

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

std::optional<SocketAddress> socket_address(const std::string& host, uint16_t port) {
  SocketAddress out;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
  if (inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    out.length = sizeof *v4;
  } else if (inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    out.length = sizeof *v6;
  } else {
    return std::nullopt;
  }
  return out;
}

uint16_t port_of(int fd) {
  SocketAddress a;
  a.length = sizeof a.storage;
  getsockname(fd, a.get(), &a.length);
  return ntohs(reinterpret_cast<sockaddr_in*>(&a.storage)->sin_port);  // the same place in sockaddr_in6
}

// The directory knows a listener's address as one number: 0 is the community's common address.
shared::Address address_of(const ListenerEntry& listener) {
  shared::Address address{};
  address.family = AF_INET;
  address.port = listener.port;
  uint32_t network = htonl(listener.address);
  memcpy(address.bytes, &network, 4);
  return address;
}

ListenerEntry entry_of(const shared::Listener& listener) {
  shared::Address address{};
  address.family = listener.family;
  memcpy(address.bytes, listener.address, 16);
  ListenerEntry entry;
  entry.id = listener.id;
  entry.pod = listener.pod;
  entry.port = listener.port;
  if (listener.family == AF_INET && !shared::is_loopback(address)) {
    uint32_t network;
    memcpy(&network, listener.address, 4);
    entry.address = ntohl(network);
  }
  return entry;
}

std::string size_text(uint64_t bytes) {
  constexpr uint64_t kMegabyte = 1 << 20, kGigabyte = 1 << 30;
  if (bytes % kGigabyte == 0) return std::to_string(bytes / kGigabyte) + "G";
  if (bytes % kMegabyte == 0) return std::to_string(bytes / kMegabyte) + "M";
  return std::to_string(bytes) + " bytes";
}

std::string proxy_name(uint64_t listener) {
  char name[32];
  snprintf(name, sizeof name, "proxy/%llx", static_cast<unsigned long long>(listener));
  return name;
}

// Never destroyed: a service lives as long as its node's loop, and the process ends with both.
std::map<Node*, StreamService*>& services() {
  static auto* all = new std::map<Node*, StreamService*>;
  return *all;
}

}  // namespace

struct StreamService::Peer {
  std::unique_ptr<Carrier> carrier;      // what we send
  std::unique_ptr<CarrierReader> reader; // what they send
  bool dialing = false;  // or about to
};

struct StreamService::Proxy {
  UniqueFd socket;
};

// A connection to our carrier port whose token has not come whole.
struct StreamService::Arriving {
  UniqueFd socket;
  std::string token;
};

StreamService::StreamService(Node& node) : node_(node), keeper_(node.home()) {
  node_.serve("carrier.open", [this](const msgpack::object& params, Reply reply) { offer_carrier(params, reply); },
              Retry::kRepeated);
  node_.on_directory_change([this](const Change& change) {
    if (far_ && !stopped_) on_change(change);
  });
  node_.on_start([this] { return start(); });
}

Result<void> StreamService::start() {
  auto segment = open_host_segment(node_.home());
  if (!segment) return segment.error();
  segment_ = *segment;
  if (uint64_t is = segment_.header().size, wanted = segment_size(node_.home()); is != wanted)
    node_.remark("the segment in use has " + size_text(is) + " and keeps them, not " + size_text(wanted) +
                 "; once its pods have ended, stop the node and start it again");
  segment_.header().host_number = node_.host_number();
  segment_.header().node_generation.fetch_add(1);
  auto streams = Streams::create(node_.loop(), segment_);
  if (!streams) return streams.error();
  streams_ = std::move(*streams);
  far_ = std::make_unique<FarConnections>(*streams_, *this);
  if (auto r = listen_for_programs(); !r) return r;
  if (auto r = listen_for_carriers(); !r) return r;
  auto kept = keeper_.all();
  std::vector<Keeper::Held> all;
  if (kept) all = std::move(*kept);
  for (Keeper::Held& held : all)
    if (kind_of(held.name) == "proxy" && held.fds.size() == 1)
      kept_proxies_[std::strtoull(rest_of(held.name).c_str(), nullptr, 16)] = std::move(held.fds[0]);
  for (const auto& [id, listener] : node_.directory().listeners()) on_listener(listener, true);
  for (const auto& [id, fd] : kept_proxies_) (void)keeper_.drop(proxy_name(id));  // of listeners that are gone
  kept_proxies_.clear();
  sync_listeners();
  for (const auto& [id, pod] : node_.directory().pods()) keep_mediators_off(streams_->self(), id, !is_here(id));
  look_after_mediators();
  // After the other rooms' start hooks, so that everybody has said what he can take up.
  auto rest = std::make_shared<std::vector<Keeper::Held>>(std::move(all));
  node_.loop().post([this, rest] { take_up_kept(std::move(*rest)); });
  on_kept("far", [this](Keeper::Held held) {
    auto end = find_end(segment_, held.name);
    if (!end || held.fds.size() != 1 || far_->knows(end->socket->id)) return;
    // Of a pod that was on its way here when the node died: whether it has come is for the move to settle.
    auto local = route(end->socket->ends[1 - end->side].pod);
    if (local && local->host != self()) {
      uncommitted_[end->socket->id] = std::move(held.fds[0]);
      return;
    }
    (void)far_->add(*end->socket, end->side, std::move(held.fds[0]), false);
  });
  return {};
}

void StreamService::take_up_kept(std::vector<Keeper::Held> all) {
  for (Keeper::Held& held : all) {
    std::string name = held.name, kind = kind_of(name);
    if (kind == "proxy") continue;
    auto handler = take_up_.find(kind);
    bool end_is_gone = (kind == "far" || kind == "outside") && !find_end(segment_, name);
    if (handler == take_up_.end() || end_is_gone)
      (void)keeper_.drop(name);
    else
      handler->second(std::move(held));
  }
}

UniqueFd StreamService::take_kept(uint64_t connection) {
  auto kept = uncommitted_.extract(connection);
  return kept ? std::move(kept.mapped()) : UniqueFd();
}

void StreamService::keep(const shared::Socket& socket, uint32_t side, int placeholder) {
  (void)keeper_.put(end_name("far", socket, side), std::span(&placeholder, 1), {});
}
void StreamService::forget(const shared::Socket& socket, uint32_t side) {
  (void)keeper_.drop(end_name("far", socket, side));
}

UniqueFd StreamService::copy_listener(uint64_t listener) {
  auto it = proxies_.find(listener);
  if (it == proxies_.end()) {
    auto made = listen_at(listener_name(segment_, listener));
    return made ? std::move(*made) : UniqueFd();
  }
  return UniqueFd(fcntl(it->second.socket.get(), F_DUPFD_CLOEXEC, 0));
}

// --- routes ----------------------------------------------------------------------------------------

std::optional<Route> StreamService::route(uint64_t pod) {
  if (pod & kBridgePod) {
    const HostEntry* host = node_.directory().host_by_number(static_cast<uint32_t>(pod & 0xffffff));
    return host ? std::optional(Route{host->name, 1}) : std::nullopt;
  }
  const PodEntry* entry = node_.directory().pod(pod);
  return entry ? std::optional(Route{entry->host, static_cast<uint32_t>(entry->epoch)}) : std::nullopt;
}

bool StreamService::is_here(uint64_t pod) const {
  const PodEntry* entry = node_.directory().pod(pod);
  return entry && entry->host == node_.host_name();
}

void StreamService::on_change(const Change& change) {
  if (change.listener.after) on_listener(*change.listener.after, true);
  if (change.listener.before && !change.listener.after) on_listener(*change.listener.before, false);
  if (!change.pod) return;
  far_->on_route((change.pod.after ? change.pod.after : change.pod.before)->id);
  shared::wake_watchers(segment_);  // a pod that comes brings its unread tuples
}

// --- listeners and proxies -------------------------------------------------------------------------

void StreamService::on_listener(const ListenerEntry& listener, bool added) {
  if (is_here(listener.pod)) return;  // the segment's own entry is the truth
  if (!added) {
    if (auto it = proxies_.find(listener.id); it != proxies_.end()) {
      node_.loop().remove_fd(it->second.socket.get());
      proxies_.erase(it);
      (void)keeper_.drop(proxy_name(listener.id));
    }
    shared::remove_listener(streams_->self(), listener.id);
    return;
  }
  shared::enter_listener(streams_->self(), address_of(listener), listener.pod, listener.id, 0);
  if (proxies_.contains(listener.id)) return;
  if (UniqueFd socket = make_proxy(listener.id); socket.valid()) proxy(listener, std::move(socket));
}

UniqueFd StreamService::make_proxy(uint64_t listener) {
  if (auto kept = kept_proxies_.extract(listener)) return std::move(kept.mapped());
  auto made = listen_at(listener_name(segment_, listener));
  return made ? std::move(*made) : UniqueFd();
}

void StreamService::proxy(const ListenerEntry& listener, UniqueFd socket) {
  uint64_t id = listener.id;
  if (!node_.loop().add_fd(socket.get(), EPOLLIN, [this, id](uint32_t) { on_knock(id); })) return;
  int number = socket.get();
  (void)keeper_.put(proxy_name(id), std::span(&number, 1), {});
  proxies_[id] = Proxy{std::move(socket)};
}

void StreamService::on_knock(uint64_t listener) {
  auto it = proxies_.find(listener);
  while (it != proxies_.end()) {
    auto accepted = accept_at(it->second.socket.get(), segment_);
    if (!accepted) return;
    shared::Socket& socket = streams_->at(accepted->offset);
    if (socket.id != accepted->connection || far_->knows(socket.id)) continue;
    (void)far_->add(socket, 1, std::move(accepted->placeholder), true);
    it = proxies_.find(listener);
  }
}

UniqueFd StreamService::release_listener(uint64_t listener, shared::Socket& socket) {
  UniqueFd placeholder;
  if (auto it = proxies_.find(listener); it != proxies_.end()) {
    node_.loop().remove_fd(it->second.socket.get());
    placeholder = std::move(it->second.socket);
    proxies_.erase(it);
    (void)keeper_.drop(proxy_name(listener));
  }
  auto known = node_.directory().listeners().find(listener);
  if (known != node_.directory().listeners().end())
    shared::enter_listener(streams_->self(), address_of(known->second), known->second.pod, listener, socket.offset);
  announced_[listener] = true;
  if (placeholder.valid()) return placeholder;
  auto made = listen_at(listener_name(segment_, listener));
  return made ? std::move(*made) : UniqueFd();
}

void StreamService::adopt_listener(uint64_t listener, UniqueFd placeholder) {
  announced_.erase(listener);
  auto known = node_.directory().listeners().find(listener);
  if (known == node_.directory().listeners().end() || proxies_.contains(listener)) return;
  shared::enter_listener(streams_->self(), address_of(known->second), known->second.pod, listener, 0);
  proxy(known->second, std::move(placeholder));
}

void StreamService::sync_listeners() {
  std::map<uint64_t, ListenerEntry> here;
  shared::Header& header = segment_.header();
  for (uint32_t i = 0; i < header.listener_limit.load(); ++i) {
    const shared::Listener& l = header.listeners[i];
    // A mediator's serves its own host: the directory knows listeners of pods alone.
    if (l.state.load() == shared::ListenerState::kLocal && !(l.pod & kBridgePod)) here[l.id] = entry_of(l);
  }
  for (const auto& [id, entry] : here) {
    if (!announced_.emplace(id, true).second || node_.directory().listeners().contains(id)) continue;
    node_.submit(listener_added(entry), [this, id](Result<Packed> done) {
      if (!done) announced_.erase(id);
    });
  }
  std::vector<uint64_t> gone;
  for (const auto& [id, entry] : node_.directory().listeners())
    if (is_here(entry.pod) && !here.contains(id)) gone.push_back(id);
  for (uint64_t id : gone) {
    announced_.erase(id);
    node_.submit(listener_removed(id), [](Result<Packed>) {});
  }
}

// Killed ones have nobody else to notice. In this thread, as all that takes ends from those who are gone.
void StreamService::look_after_mediators() {
  if (stopped_) return;
  remove_dead_mediators(streams_->self());
  node_.loop().after(kMediatorsPause, [this] { look_after_mediators(); });
}

void StreamService::remove_pod(uint64_t pod) {
  shared::remove_pod(streams_->self(), pod);
  sync_listeners();
}

Result<void> StreamService::listen_for_programs() {
  program_bell_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  shared::Name name = node_name(segment_);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, name.text, name.length);
  if (::bind(program_bell_.get(), reinterpret_cast<sockaddr*>(&address),
             static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.length)) != 0)
    return errno_error("take this segment's node name; another node serves it");
  return node_.loop().add_fd(program_bell_.get(), EPOLLIN, [this](uint32_t) {
    char ignored[64];
    while (recv(program_bell_.get(), ignored, sizeof ignored, MSG_DONTWAIT) >= 0) {
    }
    sync_listeners();
  });
}

// --- carriers --------------------------------------------------------------------------------------

Result<void> StreamService::listen_for_carriers() {
  auto address = socket_address(node_.listen_address(), 0);
  if (!address) return make_error(std::errc::invalid_argument, "listen for carriers at " + node_.listen_address());
  carrier_listener_ = UniqueFd(::socket(address->get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::bind(carrier_listener_.get(), address->get(), address->length) != 0 ||
      ::listen(carrier_listener_.get(), 128) != 0)
    return errno_error("listen for carriers at " + node_.listen_address());
  return node_.loop().add_fd(carrier_listener_.get(), EPOLLIN, [this](uint32_t) { on_carrier_connection(); });
}

void StreamService::offer_carrier(const msgpack::object& params, Reply reply) {
  std::string from;
  if (auto bad = Fields(params).need("from", from)) return reply.fail(*bad);
  if (!carrier_listener_.valid())
    return reply.fail(make_error(std::errc::resource_unavailable_try_again, "the node is starting"));
  std::erase_if(offers_, [&](const auto& offer) { return offer.second == from; });
  std::string token = random_token();
  offers_[token] = from;
  reply.send(pack_map("port", port_of(carrier_listener_.get()), "token", Bin{token}));
}

void StreamService::on_carrier_connection() {
  for (;;) {
    UniqueFd fd(::accept4(carrier_listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) return;
    int number = fd.get();
    if (!node_.loop().add_fd(number, EPOLLIN, [this, number](uint32_t) { on_greeting(number); })) continue;
    arriving_[number] = Arriving{std::move(fd), {}};
    node_.loop().after(std::chrono::seconds(5), [this, number] {
      if (arriving_.contains(number)) {
        node_.loop().remove_fd(number);
        arriving_.erase(number);
      }
    });
  }
}

void StreamService::on_greeting(int fd) {
  Arriving& one = arriving_[fd];
  char buffer[kTokenSize];
  ssize_t n = recv(fd, buffer, kTokenSize - one.token.size(), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n > 0) one.token.append(buffer, static_cast<size_t>(n));
  if (n > 0 && one.token.size() < kTokenSize) return;
  node_.loop().remove_fd(fd);
  Arriving whole = std::move(one);
  arriving_.erase(fd);
  auto offer = offers_.find(whole.token);
  if (offer == offers_.end()) return;
  std::string host = offer->second;
  offers_.erase(offer);
  auto& peer = peers_[host];
  if (!peer) peer = std::make_unique<Peer>();
  // A new connection displaces a half-open one.
  peer->reader.reset();
  peer->reader = std::make_unique<CarrierReader>(
      node_.loop(), std::move(whole.socket),
      [this, host](const FrameHeader& header, std::string_view payload) { far_->on_frame(host, header, payload); },
      [this, host] { peers_[host]->reader.reset(); });
}

Carrier& StreamService::carrier(const std::string& host) {
  auto& peer = peers_[host];
  if (!peer) peer = std::make_unique<Peer>();
  if (!peer->carrier) {
    peer->carrier = std::make_unique<Carrier>(
        node_.loop(), [this, host] { far_->on_carrier_up(host); }, [this, host] { redial(host); });
  }
  if (!peer->carrier->is_up() && !peer->dialing) dial(host);
  return *peer->carrier;
}

void StreamService::dial(const std::string& host) {
  peers_[host]->dialing = true;
  node_.call(host, "carrier.open", pack_map("from", node_.host_name()),
             [this, host](Answer answer) { on_offer(host, std::move(answer)); }, in_time(kCallPatience));
}

void StreamService::redial(const std::string& host) {
  peers_[host]->dialing = true;
  node_.loop().after(kRedial, [this, host] {
    if (far_->uses(host)) return dial(host);
    peers_[host]->dialing = false;  // the next connection to it will dial
  });
}

void StreamService::on_offer(const std::string& host, Answer answer) {
  const HostEntry* entry = node_.directory().host(host);
  uint16_t port;
  Bin token;
  if (!answer || !entry || Fields(answer->get()).need("port", port, "token", token)) return redial(host);
  auto where = parse_address(entry->address);
  if (!where) return redial(host);
  auto address = socket_address(where->address, port);
  if (!address) return redial(host);
  UniqueFd fd(::socket(address->get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  int number = fd.get();
  setsockopt(number, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUserTimeout, sizeof kUserTimeout);
  if (::connect(number, address->get(), address->length) != 0 && errno != EINPROGRESS) return redial(host);
  auto held = std::make_shared<UniqueFd>(std::move(fd));
  std::string secret(token.data);
  (void)node_.loop().add_fd(number, EPOLLOUT, [this, host, held, secret](uint32_t) {
    node_.loop().remove_fd(held->get());
    Peer& peer = *peers_[host];
    peer.dialing = false;
    if (::send(held->get(), secret.data(), secret.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(secret.size()))
      return redial(host);
    peer.carrier->connected(std::move(*held));
  });
}

// What spaces hold when the node has left.
std::string StreamService::farewell() const {
  if (!segment_.valid()) return "";
  uint64_t tuples = 0;
  if (auto desk = store::Desk::of(segment_))
    for (const SpaceFacts& space : store::list_spaces(**desk)) tuples += is_own_space(space.name) ? 0 : space.tuples;
  return tuples ? "spaces keep " + std::to_string(tuples) + (tuples == 1 ? " tuple" : " tuples") : "";
}

// The node leaves: what the directory says from now on does not concern us. A segment that nobody lives in, and that holds
// nothing, goes too.
void StreamService::stop() {
  stopped_ = true;
  if (!segment_.valid()) return;
  if (streams_) remove_dead_mediators(streams_->self());
  if (auto desk = store::Desk::of(segment_)) {
    if (node_.discards()) store::drop_all_spaces(**desk);
    if (store::is_in_use(**desk)) return;
  }
  for (const shared::Member& member : segment_.header().members)
    if (member.kind == shared::MemberKind::kPod) return;
  ::unlink(("/dev/shm/" + segment_name(node_.home())).c_str());
}

StreamService& stream_service(Node& node) { return *services().at(&node); }

void register_streams(Node& node) {
  services()[&node] = new StreamService(node);
  node.on_stop([&node] { services()[&node]->stop(); });
  node.on_farewell([&node] { return services()[&node]->farewell(); });
}

}  // namespace godwit
