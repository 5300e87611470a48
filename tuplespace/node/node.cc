#include "tuplespace/node/node.hh"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "tuplespace/command/command.hh"
#include "tuplespace/node/gather.hh"
#include "tuplespace/posix/file.hh"

namespace godwit {
namespace {

constexpr auto kGreetPatience = std::chrono::seconds(8);
constexpr auto kComeBackPatience = std::chrono::seconds(2);
constexpr auto kRejoinPause = std::chrono::seconds(1);
constexpr auto kLeavePatience = std::chrono::seconds(1);
constexpr auto kInfoPatience = std::chrono::seconds(2);  // a host that is away holds `hosts` up no longer
constexpr const char* kLoopback = "127.0.0.1:0";

std::span<const RegisterRoom> rooms_registered;

Error refused(std::string text) { return make_error(std::errc::operation_not_permitted, std::move(text)); }

std::string join_address(const std::string& address, uint16_t port) {
  bool v6 = address.find(':') != std::string::npos;
  std::string out = v6 ? std::string("[").append(address).append("]") : address;
  return out.append(":").append(std::to_string(port));
}

std::string machine_name() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  std::string host(name);
  host = host.substr(0, host.find('.'));
  return is_valid_name(host) ? host : "host";
}

// The address that this machine uses towards `peer`; a connected UDP socket sends nothing.
std::string address_towards(const std::string& peer) {
  UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(9);
  sockaddr_in mine{};
  socklen_t length = sizeof mine;
  if (inet_pton(AF_INET, peer.c_str(), &to.sin_addr) != 1) return "127.0.0.1";
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) return "127.0.0.1";
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&mine), &length);
  char text[INET_ADDRSTRLEN];
  return inet_ntop(AF_INET, &mine.sin_addr, text, sizeof text);
}

}  // namespace

void set_node_rooms(std::span<const RegisterRoom> rooms) { rooms_registered = rooms; }
std::span<const RegisterRoom> node_rooms() { return rooms_registered; }

Result<std::unique_ptr<Node>> Node::create(const Home& home, const NodeOptions& options) {
  auto lock = home.try_lock("node.lock");
  if (!lock) return lock.error();
  if (!lock->has_value()) {
    auto pid = home.running_node();
    return refused("a node runs on " + home.path() + (pid ? " already, pid " + std::to_string(*pid) : " already") +
                   "; stop it with godwit node --stop");
  }
  std::unique_ptr<Node> node(new Node(home, std::move(**lock)));
  if (auto known = node->settle_identity(options); !known) return known.error();
  if (auto open = node->open_transport(); !open) return open.error();
  if (auto bound = node->bind(options); !bound) return bound.error();
  if (auto written = node->write_pid(); !written) return written.error();
  node->serve_own_methods();
  node->serve_pod_methods();
  return node;
}

Node::~Node() {
  unlink(home_.file("node.pid").c_str());
  pods_.reset();
  ends_.clear();
}

std::string Node::listen_address() const {
  auto parsed = parse_address(self_.address);
  return parsed ? parsed->address : "127.0.0.1";
}

Result<void> Node::serves_clients_at(std::string address) {
  settings_.clients = std::move(address);
  return home_.save(settings_);
}

Result<void> Node::settle_identity(const NodeOptions& options) {
  auto settings = home_.settings();
  if (!settings) return settings.error();
  settings_ = std::move(*settings);
  if (settings_.home == 0) settings_.home = random_u64();
  while (settings_.host_number == 0) settings_.host_number = random_u64() & 0xffffff;
  if (!options.host_name.empty()) settings_.host_name = options.host_name;
  if (settings_.host_name.empty()) settings_.host_name = machine_name();
  if (!is_valid_name(settings_.host_name))
    return make_error(std::errc::invalid_argument,
                      "'" + settings_.host_name + "' is no host name; use letters, digits, '.', '_' and '-'");
  if (options.segment_size) settings_.segment_size = options.segment_size;
  if (!options.metrics.empty()) settings_.metrics = options.metrics == "off" ? "" : options.metrics;
  if (!options.clients.empty()) settings_.clients = options.clients == "off" ? "" : options.clients;
  if (settings_.join.empty()) first_of_ = settings_.community;
  join_asked_ = !options.join.empty();
  if (join_asked_) settings_.join = options.join;
  self_.name = settings_.host_name;
  self_.home = settings_.home;
  self_.number = settings_.host_number;
  self_.incarnation = random_u64();
  return {};
}

Result<void> Node::open_transport() {
  auto key = home_.community_key();
  if (!key) return key.error();
  transport_ = std::make_unique<Transport>(std::move(*key));
  if (auto admitted = transport_->admit_community(loop_); !admitted) return admitted.error();
  peers_ = std::make_unique<Peers>(loop_, *transport_, server_,
                                   [this](const std::string& host) { return find_address(host); });
  peers_->set_self(self_.name);
  replica_ = std::make_unique<Replica>(loop_, server_, *peers_, home_);
  return {};
}

// An address given is used or refused. A remembered port may have been the kernel's choice for a node
// that nobody else knows; then another will do.
Result<void> Node::bind(const NodeOptions& options) {
  bool remembered = options.listen.empty() && !settings_.listen.empty();
  std::string listen = !options.listen.empty() ? options.listen : remembered ? settings_.listen : kLoopback;
  auto bound = bind_peers(listen);
  auto parsed = parse_address(listen);
  if (!bound && remembered && parsed && parsed->address == "127.0.0.1" && settings_.join.empty())
    bound = bind_peers(kLoopback);
  if (!bound) return bound.error();

  auto local = transport_->router(Transport::Security::kNone);
  if (!local) return local.error();
  local_router_ = std::make_unique<Socket>(std::move(*local));
  if (auto named = local_router_->bind("ipc://" + home_.socket_path("node.sock")); !named) return named.error();
  auto handle = [this](Socket* socket) {
    return [this, socket](Frames frames) { server_.on_message(*socket, std::move(frames)); };
  };
  peer_watcher_ = std::make_unique<SocketWatcher>(loop_, *peer_router_, handle(peer_router_.get()));
  local_watcher_ = std::make_unique<SocketWatcher>(loop_, *local_router_, handle(local_router_.get()));
  return {};
}

namespace {
Error bind_failure(const Error& error, const std::string& listen) {
  if (error.code == std::errc::address_in_use)
    return make_error(std::errc::address_in_use, listen + " is taken; choose another --listen");
  if (error.code == std::errc::address_not_available || error.code == std::errc::no_such_device)
    return make_error(std::errc::address_not_available,
                      listen + " is not an address of this machine; choose another --listen");
  return error;
}
}  // namespace

Result<void> Node::bind_peers(const std::string& listen) {
  auto wanted = parse_address(listen);
  if (!wanted) return make_error(std::errc::invalid_argument, "'" + listen + "' is no ADDRESS:PORT; try 10.0.0.1:0");
  auto router = transport_->router(Transport::Security::kCurve);
  if (!router) return router.error();
  peer_router_ = std::make_unique<Socket>(std::move(*router));
  auto endpoint = peer_router_->bind("tcp://" + join_address(wanted->address, wanted->port));
  if (!endpoint) return bind_failure(endpoint.error(), listen);
  auto bound = parse_address(endpoint->substr(std::string_view("tcp://").size()));
  GODWIT_CHECK(bound);
  settings_.listen = join_address(wanted->address, bound->port);
  if (bound->address == "0.0.0.0") {
    auto peer = parse_address(settings_.join);
    bound->address = address_towards(peer ? peer->address : "192.0.2.1");
  }
  self_.address = join_address(bound->address, bound->port);
  return {};
}

Result<void> Node::write_pid() const {
  return replace_file(home_.file("node.pid"), std::to_string(getpid()) + "\n", Durable::kNo);
}

// What a peer has announced is newer than the directory until that changes.
std::optional<std::string> Node::find_address(const std::string& host) const {
  auto newer = announced_.find(host);
  if (newer != announced_.end()) return newer->second;
  const HostEntry* entry = directory().host(host);
  return entry ? std::optional(entry->address) : std::nullopt;
}

// ---- starting

void Node::start(Started callback) {
  replica_->directory().on_change([this](const Change& change) {
    if (change.host.after) announced_.erase(change.host.after->name);
    if (change.pod.before && !change.pod.after) {
      auto [first, last] = ends_.equal_range(change.pod.before->id);
      for (auto it = first; it != last; ++it) it->second.done();
      ends_.erase(first, last);
    }
  });
  if (settings_.join.empty()) {
    if (settings_.community == 0) settings_.community = random_u64();
    if (auto opened = replica_->open_as_first(settings_.community); !opened) return callback(opened.error());
    return join(std::move(callback), in_time(kSubmitPatience));
  }
  if (settings_.community != 0 && !join_asked_) {
    auto opened = replica_->open_as_follower(settings_.community, settings_.join);
    if (!opened) return callback(opened.error());
    return come_back(std::move(callback));
  }
  greet(std::move(callback));
}

// A node that was a member before serves what it knows while the first node is away.
void Node::come_back(Started callback) {
  if (!directory().host(self_.name)) return join(std::move(callback), in_time(kGreetPatience));
  join([this, callback](Result<void> joined) {
    if (joined || joined.error().code != std::errc::host_unreachable) return callback(joined);
    started(callback);
    rejoin_later();
  }, in_time(kComeBackPatience));
}

// Asks the node given by --join which community it is of and where that one's first node is.
void Node::greet(Started callback) {
  auto on_answer = [this, callback](Answer answer) {
    if (!answer) {
      bool silent = answer.error().code == std::errc::timed_out;
      return callback(silent ? refused(settings_.join + " does not answer; see that a node listens there and that " +
                                       home_.file("community.key") + " is a copy of its community.key")
                             : answer.error());
    }
    uint64_t community = 0;
    std::string first;
    if (auto bad = Fields(answer->get()).need("community", community, "first", first)) return callback(*bad);
    if (auto adopted = adopt_community(community, first); !adopted) return callback(adopted.error());
    join(callback, in_time(kGreetPatience));
  };
  peers_->call_address(settings_.join, "directory.hello", pack_map(), std::move(on_answer), in_time(kGreetPatience));
}

// True if this home's own community, if it has one, is nobody else's and empty.
Result<bool> Node::is_fresh() const {
  auto stored = home_.settings();
  if (!stored) return stored.error();
  if (stored->community == 0) return true;
  if (!stored->join.empty()) return false;
  auto log = LocalLog::open(home_.file("directory"), [](auto) {});
  if (!log) return log.error();
  Directory old;
  if (!log->snapshot.empty())
    if (auto installed = old.install(log->snapshot); !installed) return installed.error();
  for (const auto& entry : log->entries) old.apply(entry.index, entry.batch);
  return old.pods().empty() && old.hosts().size() <= 1;
}

Result<void> Node::adopt_community(uint64_t community, const std::string& first) {
  if (first_of_ == community)
    return refused("this home is the first node of that community; start it without --join");
  if (settings_.community != 0 && settings_.community != community) {
    auto fresh = is_fresh();
    if (!fresh) return fresh.error();
    if (!*fresh)
      return refused("this home is of another community that has hosts or pods; end them, or use another GODWIT_HOME");
    std::error_code ignored;
    std::filesystem::remove_all(home_.file("directory"), ignored);
    unlink(home_.file("directory.snapshot").c_str());
  }
  settings_.community = community;
  settings_.join = first;
  return replica_->open_as_follower(community, first);
}

void Node::join(Started callback, Deadline deadline) {
  replica_->join(self_, [this, callback, deadline](Result<void> joined) {
    if (joined) return started(callback);
    if (joined.error().code != std::errc::address_in_use) return callback(joined.error());
    settings_.host_number = self_.number = 1 + random_u64() % 0xfffffe;  // chosen by another host before
    join(callback, deadline);
  }, deadline);
}

void Node::rejoin_later() {
  replica_->join(self_, [this](Result<void> joined) {
    if (joined || leaving_) return;
    loop_.after(kRejoinPause, [this] { rejoin_later(); });
  }, in_time(kSubmitPatience));
}

void Node::started(const Started& callback) {
  if (auto saved = home_.save(settings_); !saved) return callback(saved.error());
  serving_ = true;
  for (auto& hook : start_hooks_)
    if (auto done = hook(); !done) return callback(done.error());
  announce();
  callback({});
}

// To those whose directory may show where this node was before; their copy is corrected by the log
// later. The first node's own new address cannot come that way.
void Node::announce() {
  for (const auto& [name, host] : directory().hosts()) {
    if (name == self_.name) continue;
    peers_->call(name, "node.hello",
                 pack_map("host", self_.name, "address", self_.address, "first", replica_->is_first(), "community",
                          replica_->community()),
                 [](Answer) {}, in_time(kGreetPatience));
  }
}

// ---- stopping

std::string Node::farewell() const {
  std::string names;
  for (const auto& [id, pod] : directory().pods())
    if (pod.host == self_.name) names += (names.empty() ? "" : ", ") + pod.name;
  std::string words = "left " + self_.name + (names.empty() ? "; nothing runs here" : "; still running here: " + names);
  for (const auto& remark : farewells_)
    if (std::string more = remark(); !more.empty()) words += "; " + more;
  return words;
}

void Node::leave(bool discard) {
  if (std::exchange(leaving_, true)) return;
  discards_ = discard;
  for (auto hook = stop_hooks_.rbegin(); hook != stop_hooks_.rend(); ++hook) (*hook)();  // rooms build on earlier ones
  replica_->save();
  submit(host_left(self_.name), [this](Result<Packed>) {
    replica_->save();
    loop_.after(std::chrono::milliseconds(20), [this] { loop_.stop(); });  // lets answers leave
  }, in_time(kLeavePatience));
}

// ---- methods

void Node::serve_own_methods() {
  serve("directory.hello", [this](const auto&, Reply reply) {
    if (replica_->community() == 0) return reply.fail(refused("this node has no community yet; try again"));
    reply.send(pack_map("community", replica_->community(), "first",
                        replica_->is_first() ? self_.address : replica_->first_address()));
  }, Retry::kRepeated);
  serve("node.hello", [this](const auto& params, Reply reply) {
    std::string host, address;
    bool first = false;
    uint64_t community = 0;
    if (auto bad = Fields(params).need("host", host, "address", address, "first", first, "community", community))
      return reply.fail(*bad);
    if (community != replica_->community()) return reply.fail(refused("this node is of another community"));
    announced_[host] = address;
    if (first && !replica_->is_first()) {
      replica_->first_is_back(address);
      settings_.join = address;
      if (auto saved = home_.save(settings_); !saved) return reply.fail(saved.error());
    }
    reply.done();
  }, Retry::kRepeated);
  serve("node.info", [this](const auto&, Reply reply) {
    reply.send(pack_map("host", self_.name, "address", self_.address, "pid", static_cast<int>(getpid()), "first",
                        replica_->is_first(), "number", self_.number, "applied", directory().applied(), "clients",
                        settings_.clients));
  }, Retry::kRepeated);
  serve("node.stop", [this](const auto& params, Reply reply) {
    bool discard = Fields(params).get_or<bool>("discard", false);
    reply.send_value(discard ? "left " + self_.name : farewell());
    leave(discard);
  });
  serve("hosts", [this](const auto&, Reply reply) { gather_hosts(reply); }, Retry::kRepeated);
}

// Present is who answers now: the directory does not hear of a host that loses its power.
void Node::gather_hosts(Reply reply) {
  std::vector<std::string> present;
  for (const auto& [name, host] : directory().hosts())
    if (host.present) present.push_back(name);
  ask_all(*this, present, "node.info", pack_map(), in_time(kInfoPatience), [this, reply](Gathering& all) {
    Packer packer;
    packer.array(directory().hosts().size());
    for (const auto& [name, host] : directory().hosts()) {
      auto answer = all.answers.find(name);
      bool answers = answer != all.answers.end() && answer->second;
      std::string clients = answers ? Fields(answer->second->get()).get_or<std::string>("clients", "") : "";
      auto pods = std::count_if(directory().pods().begin(), directory().pods().end(),
                                [&](const auto& pod) { return pod.second.host == host.name; });
      packer.add(Raw{pack_map("host", name, "address", host.address, "present", answers, "pods",
                              static_cast<uint64_t>(pods), "clients", clients, "this", name == self_.name)});
    }
    reply.send(packer.take());
  });
}

}  // namespace godwit
