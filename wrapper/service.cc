#include "wrapper/service.hh"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "tuplespace/posix/file.hh"
#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/members.hh"
#include "wrapper/commands.hh"
#include "wrapper/control.hh"
#include "wrapper/control_channel.hh"
#include "wrapper/conversation.hh"
#include "wrapper/pod_files.hh"
#include "wrapper/supervisor_facts.hh"

namespace godwit {

using namespace wrapper;

namespace {

constexpr auto kLogLook = std::chrono::milliseconds(50);

std::string address_text(const shared::Address& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.family == 0) return "";
  inet_ntop(address.family, address.bytes, text, sizeof text);
  std::string host = address.family == AF_INET6 ? "[" + std::string(text) + "]" : text;
  return host + ":" + std::to_string(address.port);
}

void clear_folder(const std::string& path) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(path, ignored)) std::filesystem::remove(entry, ignored);
}

bool living(const shared::End& end) { return !(end.flags.load() & (shared::kClosed | shared::kGone)); }

}  // namespace

struct PodService::Watched {
  std::string name;
  UniqueFd channel;
  SupervisorFacts facts;
  std::string state;
  std::string in;
  std::map<uint64_t, Reply> asks;  // of its foreground, by serial
};

PodService::PodService(Node& node) : node_(node), ferry_(node) {
  node_.serve("pods.admit", [this](const msgpack::object& params, Reply reply) { admit(params, reply); });
  node_.serve("pods.started", [this](const msgpack::object& params, Reply reply) {
    std::string name;
    uint64_t pod = 0;
    if (auto bad = Fields(params).need("pod", pod, "name", name)) return reply.fail(*bad);
    started(pod, name);
    reply.done();
  });
  node_.serve("pods.failed", [this](const msgpack::object& params, Reply reply) {
    uint64_t pod = 0;
    if (auto bad = Fields(params).need("pod", pod)) return reply.fail(*bad);
    admitted_.erase(pod);
    ended(pod, [reply] { reply.done(); });
  });
  node_.serve("pod.ask", [this](const auto& params, Reply reply) { ask(params, reply); }, Retry::kRepeated);
  node_.serve("pod.left", [this](const auto& params, Reply reply) { left(params, reply); });
  node_.serve("pod.log_dropped", [this](const auto& params, Reply reply) {
    uint64_t pod = 0;
    if (auto bad = Fields(params).need("pod", pod)) return reply.fail(*bad);
    ::unlink(arriving_log(pod).c_str());
    reply.done();
  });
  node_.serve("pod.log", [this](const auto& params, Reply reply) { keep_log(params, reply); });
  ferry_.on_starter_gone([this](uint64_t starter) { starter_gone(starter); });
  node_.on_start([this] { return start(); });
}

PodService::~PodService() {
  for (auto& [name, pod] : watched_) node_.loop().remove_fd(pod->channel.get());
}

// What a predecessor left: pods with a living supervisor are taken up, those that ended meanwhile are told.
Result<void> PodService::start() {
  if (auto folder = node_.home().folder("pods"); !folder) return folder.error();
  auto arriving = node_.home().folder("arriving");
  if (!arriving) return arriving.error();
  clear_folder(*arriving);
  reclaim_pod_files(segment_name(node_.home()));
  if (auto listens = ferry_.listen(); !listens) return listens;
  for (const std::string& name : node_.home().pod_folders()) take_up(name);
  std::vector<uint64_t> over;
  for (const auto& [id, pod] : node_.directory().pods())
    if (pod.host == node_.host_name() && !watched_.contains(pod.name) && !is_supervised(pod.name)) over.push_back(id);
  for (uint64_t id : over) ended(id);
  return {};
}

// A supervisor that is there but slow to answer is asked again: only one that is gone says that its pod is.
void PodService::take_up(const std::string& name) {
  if (watch(name) || !is_supervised(name)) return;
  node_.loop().after(std::chrono::milliseconds(200), [this, name] { take_up(name); });
}

bool PodService::is_supervised(const std::string& name) const {
  return connect_control(directory_of(name)).has_value();
}

void PodService::admit(const msgpack::object& params, Reply reply) {
  std::string name, hint, virtual_host;
  uint64_t starter = 0;
  if (auto bad = Fields(params).need("name", name, "hint", hint, "virtual_host", virtual_host, "starter", starter))
    return reply.fail(*bad);
  for (char& c : hint)
    if (!is_valid_name(std::string(1, c)) && c != '.' && c != '_' && c != '-') c = '_';
  if (hint.size() > 40) hint.resize(40);
  if (!is_valid_name(hint)) hint = "pod";
  node_.submit(pod_created(name, hint, node_.host_name(), virtual_host), [this, starter, reply](Result<Packed> outcome) {
    if (!outcome) return reply.fail(outcome.error());
    auto object = unpack(*outcome);
    if (!object) return reply.fail(object.error());
    uint64_t id = Fields(object->get()).get_or<uint64_t>("id", 0);
    const PodEntry* entry = node_.directory().pod(id);
    if (!entry) return reply.fail(make_error(std::errc::no_such_process, "the pod is gone already"));
    place(*entry, starter, reply);
  });
}

void PodService::place(const PodEntry& entry, uint64_t starter, Reply reply) {
  if (!ferry_.aboard(starter)) {
    ended(entry.id);
    return reply.fail(make_error(std::errc::operation_canceled, "the node has been started anew meanwhile; run it again"));
  }
  reclaim_pod_files(segment_name(node_.home()));  // the node starts seldom
  uint32_t member = 0;
  int e = shared::add_pod(stream_service(node_).streams().self(), entry.id, &member);
  if (e) {
    ended(entry.id);
    return reply.fail(e == -ENOSPC ? make_error(std::errc::no_space_on_device,
                                                "no room for another pod in shared memory; make room in /dev/shm, or see "
                                                "--segment-size of godwit node")
                                   : make_error(std::errc::resource_unavailable_try_again,
                                                "this host has as many pods as it can take; end one"));
  }
  admitted_[entry.id] = starter;
  reply.send(pack_map("pod", entry.id, "member", member, "segment", segment_name(node_.home()), "name", entry.name,
                      "virtual_host", entry.virtual_host));
}

// A program may be over before its start is told: then its end is told instead.
void PodService::started(uint64_t pod, const std::string& name) {
  admitted_.erase(pod);
  if (!watch(name)) ended(pod);
}

// Killed before it could say what became of its pod.
void PodService::starter_gone(uint64_t starter) {
  auto found = std::find_if(admitted_.begin(), admitted_.end(), [&](const auto& entry) { return entry.second == starter; });
  if (found == admitted_.end()) return;
  const PodEntry* entry = node_.directory().pod(found->first);
  started(found->first, entry ? entry->name : "");
}

std::string PodService::directory_of(const std::string& name) const { return node_.home().file("pods/" + name); }

Result<void> PodService::watch(const std::string& name) {
  if (watched_.contains(name)) return {};
  auto channel = connect_control(directory_of(name));
  if (!channel) return channel.error();
  timeval patience{2, 0};  // a supervisor answers at once, or is not one
  ::setsockopt(channel->get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  auto facts = ask_facts(channel->get());
  if (!facts) return facts.error();
  auto pod = std::make_unique<Watched>();
  pod->name = name;
  pod->channel = std::move(*channel);
  pod->facts = std::move(*facts);
  int fd = pod->channel.get();
  watched_[name] = std::move(pod);
  return node_.loop().add_fd(fd, EPOLLIN, [this, name](uint32_t) { on_channel(name); });
}

void PodService::on_channel(const std::string& name) {
  if (!read_channel(*watched_[name])) hung_up(name);
}

bool PodService::read_channel(Watched& pod) {
  char bytes[64 << 10];
  ssize_t n = ::recv(pod.channel.get(), bytes, sizeof bytes, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (n <= 0) return false;
  pod.in.append(bytes, static_cast<size_t>(n));
  FrameKind kind;
  std::string payload;
  while (take_frame(pod.in, &kind, &payload) == 1) {
    if (kind != FrameKind::kNews) continue;
    auto asked = pod.asks.extract(serial_of(payload));
    if (asked) asked.mapped().send_value(Bin{payload});
  }
  return true;
}

void PodService::hung_up(const std::string& name) {
  auto pod = std::move(watched_.extract(name).mapped());
  node_.loop().remove_fd(pod->channel.get());
  ended(pod->facts.number("pod"));
}

// Nothing of the pod runs any more, or ever did. told: the directory knows it, or cannot be told.
void PodService::ended(uint64_t pod, const std::function<void()>& told) {
  const PodEntry* entry = node_.directory().pod(pod);
  if (entry && entry->host != node_.host_name()) return told();
  stream_service(node_).remove_pod(pod);
  if (!entry) return told();
  node_.submit(pod_ended(pod, entry->epoch), [told](Result<Packed>) { told(); });
}

pid_t PodService::program(const std::string& name) const {
  auto found = watched_.find(name);
  return found == watched_.end() ? 0 : static_cast<pid_t>(found->second->facts.number("program_pid"));
}

void PodService::set_state(const std::string& name, std::string state) {
  if (auto found = watched_.find(name); found != watched_.end()) found->second->state = std::move(state);
}

// --- what a move brings, and the foregrounds of other hosts --------------------------------------------

PodService::Watched* PodService::find(uint64_t pod) {
  for (auto& [name, watched] : watched_)
    if (watched->facts.number("pod") == pod) return watched.get();
  return nullptr;
}

// The supervisor answers the latest ask alone: whoever asked before is told that there is no answer.
void PodService::ask(const msgpack::object& params, Reply reply) {
  uint64_t id = 0;
  Bin what;
  if (auto bad = Fields(params).need("pod", id, "ask", what)) return reply.fail(*bad);
  Watched* pod = find(id);
  if (!pod) return reply.fail(make_error(std::errc::no_such_process, "the pod is not on this host"));
  uint64_t serial = serial_of(what.data);
  if (!pod->asks.empty() && pod->asks.begin()->first > serial)
    return reply.fail(make_error(std::errc::operation_canceled, "a later ask is here already"));
  pod->asks.clear();
  pod->asks.emplace(serial, reply);
  if (auto sent = send_frame(pod->channel.get(), FrameKind::kAsk, std::string(what.data)); !sent) pod->asks.clear();
}

void PodService::left(const msgpack::object& params, Reply reply) {
  uint64_t id = 0;
  if (auto bad = Fields(params).need("pod", id)) return reply.fail(*bad);
  if (Watched* pod = find(id)) (void)send_frame(pod->channel.get(), FrameKind::kLeft, "");
  reply.done();
}

std::string PodService::arriving_log(uint64_t pod) const {
  return node_.home().file("arriving/" + std::to_string(pod));
}

void PodService::keep_log(const msgpack::object& params, Reply reply) {
  uint64_t pod = 0, offset = 0;
  bool made = false;
  Bin data;
  if (auto bad = Fields(params).need("pod", pod, "made", made, "offset", offset, "data", data)) return reply.fail(*bad);
  Watched* here = made ? find(pod) : nullptr;
  if (made && !here) return reply.fail(make_error(std::errc::no_such_process, "the pod is not on this host"));
  std::string path = here ? directory_of(here->name) + "/log" : arriving_log(pod);
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  bool kept = file.valid() && ::ftruncate(file.get(), static_cast<off_t>(offset)) == 0 &&
              ::lseek(file.get(), 0, SEEK_END) >= 0;
  if (!kept) return reply.fail(errno_error("keep the pod's log"));
  reply.finish(write_all(file.get(), data.data));
}

// --- what ps shows -------------------------------------------------------------------------------------

PodFacts PodService::facts_of(const Watched& pod) const {
  PodFacts facts;
  facts.pod = pod.facts.number("pod");
  facts.pid = static_cast<int>(pod.facts.number("program_pid"));
  facts.state = pod.state.empty() ? "running" : pod.state;
  facts.command = pod.facts.spec.command;
  facts.reason = pod.facts.spec.reason;
  shared::Segment segment = stream_service(node_).segment();
  if (facts.reason.empty())
    facts.reason = node_.reason_not_to_move(facts.pod, facts.pid);
  facts.movable = facts.reason.empty();
  shared::for_each_run(segment, [&](shared::Offset offset, const shared::Chunk& chunk) {
    if (chunk.kind != shared::RunKind::kSocket) return;
    const shared::Socket& socket = *segment.at<shared::Socket>(offset);
    if (socket.state.load() != shared::SocketState::kConnected) return;
    for (uint32_t side = 0; side < 2; ++side) {
      if (socket.ends[side].pod != facts.pod || !living(socket.ends[side])) continue;
      facts.connections++;
      facts.bytes_out += socket.rings[side].tail.load();
      facts.bytes_in += socket.rings[1 - side].head.load();
    }
  });
  return facts;
}

void PodService::facts(std::function<void(std::vector<PodFacts>)> callback) {
  std::vector<PodFacts> all;
  for (const auto& [name, pod] : watched_) {
    const PodEntry* entry = node_.directory().pod(pod->facts.number("pod"));
    // One on its way here is its source's to tell of.
    if (entry && entry->host == node_.host_name()) all.push_back(facts_of(*pod));
  }
  callback(std::move(all));
}

namespace {
ConnectionFacts connection_facts(const shared::Socket& socket) {
  ConnectionFacts facts;
  char id[shared::kConnectionText];
  shared::connection_text(socket.id, id);
  facts.connection = id;
  facts.accepted = socket.accepted.load();
  for (size_t i = 0; i < 2; ++i) {
    const shared::End& end = socket.ends[i];
    const shared::Ring& ring = socket.rings[i];
    facts.pods[i] = end.pod;
    facts.addresses[i] = address_text(end.address);
    facts.living[i] = living(end);
    facts.heads[i] = ring.head.load();
    facts.tails[i] = ring.tail.load();
  }
  return facts;
}
}  // namespace

void PodService::connections(std::function<void(std::vector<ConnectionFacts>)> callback) {
  std::vector<ConnectionFacts> all;
  shared::Segment segment = stream_service(node_).segment();
  shared::for_each_run(segment, [&](shared::Offset offset, const shared::Chunk& chunk) {
    if (chunk.kind != shared::RunKind::kSocket) return;
    const shared::Socket& socket = *segment.at<shared::Socket>(offset);
    if (socket.state.load() == shared::SocketState::kConnected) all.push_back(connection_facts(socket));
  });
  callback(std::move(all));
}

// --- signals and logs ----------------------------------------------------------------------------------

namespace {
Error unknown(const std::string& name) {
  return make_error(std::errc::no_such_process, "no pod named " + name + " runs on this host; see godwit ps");
}
}  // namespace

void PodService::signal(const std::string& name, int signo, std::function<void(Result<void>)> callback) {
  auto found = watched_.find(name);
  if (found == watched_.end()) return callback(unknown(name));
  int channel = found->second->channel.get();
  if (signo == SIGKILL) return callback(send_frame(channel, FrameKind::kEnd, ""));
  callback(send_frame(channel, FrameKind::kSignal, pack_i32(signo) + std::string(1, 0)));
}

void PodService::log(const std::string& name, uint64_t offset, uint64_t limit, bool wait,
                     std::function<void(Result<PodLog>)> callback) {
  bool running = node_.directory().pod_named(name);
  UniqueFd file(valid_pod_name(name) ? ::open((directory_of(name) + "/log").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1);
  if (!file.valid()) return callback(unknown(name));
  PodLog log;
  log.data.resize(limit);
  ssize_t n = ::pread(file.get(), log.data.data(), limit, static_cast<off_t>(offset));
  log.data.resize(n > 0 ? static_cast<size_t>(n) : 0);
  log.next = offset + log.data.size();
  log.ended = !running && log.data.size() < limit;
  if (!log.data.empty() || !wait || log.ended) return callback(std::move(log));
  node_.loop().after(kLogLook, [this, name, offset, limit, callback = std::move(callback)] {
    this->log(name, offset, limit, true, callback);
  });
}

namespace {
std::map<Node*, PodService*>& services() {
  static std::map<Node*, PodService*> all;
  return all;
}
}  // namespace

PodService& pod_service(Node& node) { return *services().at(&node); }

void register_wrapper(Node& node) {
  auto service = std::make_unique<PodService>(node);
  services()[&node] = service.get();
  node.set_pod_controller(std::move(service));
  node.set_pod_host(std::make_unique<PodMaker>(node));
}

}  // namespace godwit
