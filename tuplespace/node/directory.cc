#include "tuplespace/node/directory.hh"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace godwit {
namespace {

constexpr uint32_t kNetwork = 198u << 24 | 18u << 16;  // 198.18.0.0/15, docs/decisions/0002-virtual-network.md
constexpr uint32_t kNetworkSize = 1u << 17;
constexpr int kSnapshotVersion = 1;

Outcome refused(int code, std::string what) { return {code, std::move(what), pack(nullptr)}; }
Outcome done() { return {0, "", pack(nullptr)}; }

// The entries as msgpack maps: one list of fields each for writing and for reading.
Packed pack_entry(const HostEntry& e) {
  return pack_map("name", e.name, "address", e.address, "home", e.home, "number", e.number,
                  "incarnation", e.incarnation, "present", e.present);
}
Packed pack_entry(const PodEntry& e) {
  return pack_map("id", e.id, "name", e.name, "host", e.host, "epoch", e.epoch, "virtual_host",
                  e.virtual_host, "virtual_address", e.virtual_address);
}
Packed pack_entry(const ListenerEntry& e) {
  return pack_map("id", e.id, "pod", e.pod, "address", e.address, "port", e.port);
}
Packed pack_entry(const PublishedPort& e) {
  return pack_map("host", e.host, "address", e.address, "port", e.port, "pod", e.pod, "pod_port", e.pod_port);
}
bool read_entry(const Fields& f, HostEntry& e) {
  return !f.need("name", e.name, "address", e.address, "home", e.home, "number", e.number,
                 "incarnation", e.incarnation, "present", e.present);
}
bool read_entry(const Fields& f, PodEntry& e) {
  return !f.need("id", e.id, "name", e.name, "host", e.host, "epoch", e.epoch, "virtual_host",
                 e.virtual_host, "virtual_address", e.virtual_address);
}
bool read_entry(const Fields& f, ListenerEntry& e) {
  return !f.need("id", e.id, "pod", e.pod, "address", e.address, "port", e.port);
}
bool read_entry(const Fields& f, PublishedPort& e) {
  return !f.need("host", e.host, "address", e.address, "port", e.port, "pod", e.pod, "pod_port", e.pod_port);
}

template <class Map>
void pack_entries(Packer& packer, std::string_view key, const Map& entries) {
  packer.add(key).array(entries.size());
  for (const auto& [ignored, entry] : entries) packer.add(Raw{pack_entry(entry)});
}

template <class Entry, class Keep>
bool read_entries(const Fields& fields, std::string_view key, Keep keep) {
  auto objects = fields.get<std::vector<msgpack::object>>(key);
  if (!objects) return false;
  for (const auto& object : *objects) {
    Entry entry;
    if (!read_entry(Fields(object), entry)) return false;
    keep(std::move(entry));
  }
  return true;
}

}  // namespace

bool is_valid_name(std::string_view name) {
  auto plain = [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  if (name.empty() || name.size() > 63 || !plain(static_cast<unsigned char>(name[0]))) return false;
  return std::all_of(name.begin(), name.end(), [&](unsigned char c) {
    return plain(c) || c == '.' || c == '_' || c == '-';
  });
}

DirectoryCommand host_joined(const HostEntry& host) { return {"host.joined", pack_entry(host)}; }
DirectoryCommand host_left(const std::string& name) { return {"host.left", pack_map("name", name)}; }
DirectoryCommand pod_created(const std::string& name, const std::string& hint, const std::string& host,
                             const std::string& virtual_host, uint64_t id) {
  return {"pod.created", pack_map("name", name, "hint", hint, "host", host, "virtual_host", virtual_host, "id", id)};
}
DirectoryCommand pod_moved(uint64_t pod, uint64_t expected_epoch, const std::string& host) {
  return {"pod.moved", pack_map("pod", pod, "epoch", expected_epoch, "host", host)};
}
DirectoryCommand pod_ended(uint64_t pod, uint64_t epoch) {
  return {"pod.ended", pack_map("pod", pod, "epoch", epoch)};
}
DirectoryCommand listener_added(const ListenerEntry& l) { return {"listener.added", pack_entry(l)}; }
DirectoryCommand listener_removed(uint64_t id) { return {"listener.removed", pack_map("id", id)}; }
DirectoryCommand port_published(const PublishedPort& p) { return {"port.published", pack_entry(p)}; }
DirectoryCommand port_withdrawn(const std::string& host, const std::string& address, uint16_t port) {
  return {"port.withdrawn", pack_map("host", host, "address", address, "port", port)};
}
DirectoryCommand nothing() { return {"nothing", pack_map()}; }

Result<Packed> Outcome::as_result() const {
  if (code == 0) return result;
  return Error{std::error_code(code, std::generic_category()), what};
}

Packed pack_command(const CommandId& id, const DirectoryCommand& command) {
  Packer packer;
  packer.array(5).add(id.session).add(id.sequence).add(id.floor);
  return packer.add(command.op).add(Raw{command.args}).take();
}

Packed pack_batch(const std::vector<Packed>& commands) {
  Packer packer;
  packer.array(commands.size());
  for (const auto& command : commands) packer.add(Raw{command});
  return packer.take();
}

struct Directory::Command {
  CommandId id;
  std::string op;
  msgpack::object args;
  Fields fields() const { return Fields(args); }
};

std::vector<PublishedPort> Directory::published() const {
  std::vector<PublishedPort> ports;
  for (const auto& [key, port] : state_.published) ports.push_back(port);
  return ports;
}

const HostEntry* Directory::host(const std::string& name) const {
  auto found = state_.hosts.find(name);
  return found == state_.hosts.end() ? nullptr : &found->second;
}

const HostEntry* Directory::host_by_number(uint32_t number) const {
  for (const auto& [name, host] : state_.hosts)
    if (host.number == number) return &host;
  return nullptr;
}

const PodEntry* Directory::pod(uint64_t id) const {
  auto found = state_.pods.find(id);
  return found == state_.pods.end() ? nullptr : &found->second;
}

const PodEntry* Directory::pod_named(const std::string& name) const {
  for (const auto& [id, pod] : state_.pods)
    if (pod.name == name) return &pod;
  return nullptr;
}

const ListenerEntry* Directory::listener_at(uint32_t address, uint16_t port) const {
  const ListenerEntry* any = nullptr;
  for (const auto& [id, listener] : state_.listeners) {
    if (listener.port != port) continue;
    const PodEntry* owner = pod(listener.pod);
    bool reached = address == 0 || (owner && owner->virtual_address == address);
    if (listener.address != 0 && listener.address == address) return &listener;
    if (reached && !any && (listener.address == 0 || address == 0)) any = &listener;
  }
  return any;
}

std::vector<Applied> Directory::apply(uint64_t index, std::string_view batch) {
  GODWIT_CHECK(index == state_.applied + 1);
  state_.applied = index;
  std::vector<Applied> all;
  auto object = unpack(batch);
  std::vector<std::vector<msgpack::object>> commands;
  if (!object || !decode(object->get(), commands)) return all;
  for (const auto& parts : commands) {
    Command command;
    auto& id = command.id;
    if (parts.size() != 5 || !decode(parts[0], id.session) || !decode(parts[1], id.sequence) ||
        !decode(parts[2], id.floor) || !decode(parts[3], command.op))
      continue;
    command.args = parts[4];
    all.push_back({id, run_once(command)});
  }
  return all;
}

const std::map<std::string_view, Directory::Op>& Directory::ops() {
  static const std::map<std::string_view, Op> table = {
      {"host.joined", &Directory::join},          {"host.left", &Directory::leave},
      {"pod.created", &Directory::create_pod},    {"pod.moved", &Directory::move_pod},
      {"pod.ended", &Directory::end_pod},         {"listener.added", &Directory::add_listener},
      {"listener.removed", &Directory::remove_listener}, {"port.published", &Directory::publish},
      {"port.withdrawn", &Directory::withdraw},   {"nothing", &Directory::do_nothing},
  };
  return table;
}

Outcome Directory::run_once(const Command& command) {
  auto op = ops().find(command.op);
  if (op == ops().end()) return refused(ENOSYS, "the directory has no command '" + command.op + "'");
  auto known = state_.sessions.find(command.id.session);
  if (known == state_.sessions.end() && command.op != "host.joined")
    return refused(ESTALE, "the sender's session has ended; its node must join again");
  if (known != state_.sessions.end()) {
    Session& session = known->second;
    session.floor = std::max(session.floor, command.id.floor);
    session.outcomes.erase(session.outcomes.begin(), session.outcomes.lower_bound(session.floor));
    if (command.id.sequence < session.floor) return refused(ESTALE, "the sender gave this command up");
    auto first = session.outcomes.find(command.id.sequence);
    if (first != session.outcomes.end()) return first->second;
  }
  Outcome outcome = (this->*op->second)(command);
  known = state_.sessions.find(command.id.session);
  if (known != state_.sessions.end()) known->second.outcomes[command.id.sequence] = outcome;
  return outcome;
}

void Directory::tell(const Change& change) const {
  for (const auto& observer : observers_) observer(change);
}

void Directory::drop_sessions_of(const std::string& host) {
  std::erase_if(state_.sessions, [&](const auto& entry) { return entry.second.host == host; });
}

bool Directory::has_pods(const std::string& host) const {
  return std::any_of(state_.pods.begin(), state_.pods.end(),
                     [&](const auto& pod) { return pod.second.host == host; });
}

// A home that comes back under another name takes the old one off the list.
std::optional<Outcome> Directory::drop_former_name(const HostEntry& host) {
  for (auto& [name, other] : state_.hosts) {
    if (other.home != host.home && other.number == host.number)
      return refused(EADDRINUSE, "the host number belongs to " + name);
    if (other.home != host.home || name == host.name) continue;
    if (has_pods(name)) return refused(EBUSY, "this host has pods as " + name + "; start it with --host-name " + name);
    Change change;
    change.host.before = other;
    drop_sessions_of(name);
    state_.hosts.erase(name);
    tell(change);
    return std::nullopt;
  }
  return std::nullopt;
}

Outcome Directory::join(const Command& command) {
  HostEntry host;
  if (!read_entry(command.fields(), host) || !is_valid_name(host.name) || host.number == 0 ||
      host.number >= 1u << 24 || host.incarnation != command.id.session)
    return refused(EINVAL, "a host's entry is malformed");
  host.present = true;
  auto known = state_.hosts.find(host.name);
  if (known != state_.hosts.end() && known->second.home != host.home)
    return refused(EEXIST, "the community has another host named " + host.name + "; give --host-name another");
  if (auto refusal = drop_former_name(host)) return *refusal;
  Change change;
  if (known != state_.hosts.end()) change.host.before = known->second;
  change.host.after = state_.hosts[host.name] = host;
  drop_sessions_of(host.name);
  state_.sessions[command.id.session].host = host.name;
  tell(change);
  return {0, "", pack_entry(host)};
}

Outcome Directory::leave(const Command& command) {
  auto found = state_.hosts.find(command.fields().get_or<std::string>("name", ""));
  if (found == state_.hosts.end()) return refused(ENXIO, "no such host; see godwit hosts");
  Change change;
  change.host.before = found->second;
  if (has_pods(found->first)) {
    found->second.present = false;
    change.host.after = found->second;
  } else {
    drop_sessions_of(found->first);
    state_.hosts.erase(found);
  }
  tell(change);
  return done();
}

std::string Directory::free_name(const std::string& hint) const {
  std::string base = is_valid_name(hint) ? hint.substr(0, 52) : "pod";
  std::string name = base;
  for (uint64_t n = 2; pod_named(name) || virtual_host_taken(name); ++n) name = base + "-" + std::to_string(n);
  return name;
}

bool Directory::virtual_host_taken(const std::string& name) const {
  return std::any_of(state_.pods.begin(), state_.pods.end(),
                     [&](const auto& pod) { return pod.second.virtual_host == name; });
}

// The next one after the last given, so that an address is not soon another pod's. Not .0 and not .255.
std::optional<uint32_t> Directory::free_address() {
  std::vector<uint32_t> taken;
  for (const auto& [id, pod] : state_.pods) taken.push_back(pod.virtual_address);
  for (uint32_t tries = 0; tries < kNetworkSize; ++tries) {
    state_.next_address = (state_.next_address + 1) % kNetworkSize;
    uint32_t address = kNetwork + state_.next_address;
    uint32_t last = address & 0xff;
    if (last == 0 || last == 255 || std::find(taken.begin(), taken.end(), address) != taken.end()) continue;
    return address;
  }
  return std::nullopt;
}

Outcome Directory::create_pod(const Command& command) {
  PodEntry pod;
  std::string hint;
  if (command.fields().need("name", pod.name, "hint", hint, "host", pod.host, "virtual_host",
                            pod.virtual_host, "id", pod.id))
    return refused(EINVAL, "a pod's entry is malformed");
  if (!host(pod.host)) return refused(ENXIO, "no host named " + pod.host + "; see godwit hosts");
  if (pod.name.empty()) pod.name = free_name(hint);
  if (!is_valid_name(pod.name))
    return refused(EINVAL, "a pod's name is letters, digits, '.', '_' and '-'; give --name another");
  if (pod_named(pod.name)) return refused(EEXIST, "there is a pod named " + pod.name + "; give --name another");
  if (pod.virtual_host.empty()) pod.virtual_host = pod.name;
  if (!is_valid_name(pod.virtual_host))
    return refused(EINVAL, "a virtual host's name is letters, digits, '.', '_' and '-'; give --host another");
  if (virtual_host_taken(pod.virtual_host))
    return refused(EEXIST, "a pod has the virtual host " + pod.virtual_host + "; give --host another");
  if (pod.id == 0) {
    while (state_.pods.contains(state_.next_pod)) ++state_.next_pod;
    pod.id = state_.next_pod++;
  } else if (state_.pods.contains(pod.id)) {
    return refused(EEXIST, "the pod number is taken");
  }
  auto address = free_address();
  if (!address) return refused(ENOSPC, "the virtual network is full; end some pods");
  pod.virtual_address = *address;
  pod.epoch = 1;
  state_.pods[pod.id] = pod;
  Change change;
  change.pod.after = pod;
  tell(change);
  return {0, "", pack_entry(pod)};
}

namespace {
Outcome no_such_pod() { return refused(ESRCH, "no such pod; see godwit ps"); }
Outcome fenced(const PodEntry& pod) {
  return refused(ECANCELED, "pod " + pod.name + " is on " + pod.host + " at epoch " + std::to_string(pod.epoch) +
                                " by now; look again with godwit ps");
}
}  // namespace

Outcome Directory::move_pod(const Command& command) {
  uint64_t id = 0, epoch = 0;
  std::string target;
  if (command.fields().need("pod", id, "epoch", epoch, "host", target))
    return refused(EINVAL, "a move's entry is malformed");
  auto found = state_.pods.find(id);
  if (found == state_.pods.end()) return no_such_pod();
  if (!host(target)) return refused(ENXIO, "no host named " + target + "; see godwit hosts");
  if (found->second.epoch != epoch) return fenced(found->second);
  Change change;
  change.pod.before = found->second;
  found->second.host = target;
  found->second.epoch = epoch + 1;
  change.pod.after = found->second;
  Packed result = pack_entry(found->second);
  tell(change);
  return {0, "", result};
}

// Listeners and ports first, so that no observer sees one whose pod is unknown.
Outcome Directory::end_pod(const Command& command) {
  uint64_t id = 0, epoch = 0;
  if (command.fields().need("pod", id, "epoch", epoch)) return refused(EINVAL, "an end's entry is malformed");
  auto found = state_.pods.find(id);
  if (found == state_.pods.end()) return no_such_pod();
  if (found->second.epoch != epoch) return fenced(found->second);
  std::vector<Change> changes;
  std::erase_if(state_.listeners, [&](const auto& entry) {
    if (entry.second.pod != id) return false;
    changes.emplace_back().listener.before = entry.second;
    return true;
  });
  std::erase_if(state_.published, [&](const auto& entry) {
    if (entry.second.pod != id) return false;
    changes.emplace_back().published.before = entry.second;
    return true;
  });
  changes.emplace_back().pod.before = found->second;
  state_.pods.erase(found);
  for (const auto& change : changes) tell(change);
  return done();
}

// Several of one pod may share a port (SO_REUSEPORT); those of different pods only at different addresses.
Outcome Directory::add_listener(const Command& command) {
  ListenerEntry listener;
  if (!read_entry(command.fields(), listener) || listener.id == 0 || listener.port == 0)
    return refused(EINVAL, "a listener's entry is malformed");
  if (!pod(listener.pod)) return no_such_pod();
  for (const auto& [id, other] : state_.listeners) {
    if (id == listener.id) return refused(EEXIST, "the listener's number is taken");
    bool same = other.port == listener.port && other.address == listener.address && listener.address != 0;
    if (same && other.pod != listener.pod)
      return refused(EADDRINUSE, "another pod listens there; use another port or virtual host");
  }
  state_.listeners[listener.id] = listener;
  Change change;
  change.listener.after = listener;
  tell(change);
  return done();
}

Outcome Directory::remove_listener(const Command& command) {
  auto found = state_.listeners.find(command.fields().get_or<uint64_t>("id", 0));
  if (found == state_.listeners.end()) return refused(ENOENT, "no such listener; it is gone already");
  Change change;
  change.listener.before = found->second;
  state_.listeners.erase(found);
  tell(change);
  return done();
}

Outcome Directory::publish(const Command& command) {
  PublishedPort port;
  if (!read_entry(command.fields(), port) || port.port == 0) return refused(EINVAL, "a port's entry is malformed");
  if (!pod(port.pod)) return no_such_pod();
  if (!host(port.host)) return refused(ENXIO, "no host named " + port.host + "; see godwit hosts");
  PortKey key{port.host, {port.address, port.port}};
  if (state_.published.contains(key))
    return refused(EADDRINUSE, port.address + ":" + std::to_string(port.port) + " of " + port.host +
                                   " is published already; choose another port");
  state_.published[key] = port;
  Change change;
  change.published.after = port;
  tell(change);
  return done();
}

Outcome Directory::withdraw(const Command& command) {
  PortKey key;
  if (command.fields().need("host", key.first, "address", key.second.first, "port", key.second.second))
    return refused(EINVAL, "a port's entry is malformed");
  auto found = state_.published.find(key);
  if (found == state_.published.end()) return refused(ENOENT, "no such published port; see godwit ps");
  Change change;
  change.published.before = found->second;
  state_.published.erase(found);
  tell(change);
  return done();
}

Outcome Directory::do_nothing(const Command&) { return done(); }

Packed Directory::snapshot() const {
  Packer packer;
  packer.map(9).add("version").add(kSnapshotVersion).add("applied").add(state_.applied);
  packer.add("next_pod").add(state_.next_pod).add("next_address").add(state_.next_address);
  pack_entries(packer, "hosts", state_.hosts);
  pack_entries(packer, "pods", state_.pods);
  pack_entries(packer, "listeners", state_.listeners);
  pack_entries(packer, "published", state_.published);
  packer.add("sessions").array(state_.sessions.size());
  for (const auto& [id, session] : state_.sessions) {
    packer.array(4).add(id).add(session.host).add(session.floor).array(session.outcomes.size());
    for (const auto& [sequence, outcome] : session.outcomes)
      packer.array(4).add(sequence).add(outcome.code).add(outcome.what).add(Bin{outcome.result});
  }
  return packer.take();
}

Result<Directory::State> Directory::read_state(std::string_view snapshot) {
  const Error damaged = make_error(std::errc::bad_message, "a snapshot of the directory is damaged");
  auto object = unpack(snapshot);
  if (!object) return damaged;
  Fields fields(object->get());
  State state;
  int version = 0;
  std::vector<std::vector<msgpack::object>> sessions;
  if (fields.need("version", version, "applied", state.applied, "next_pod", state.next_pod, "next_address",
                  state.next_address, "sessions", sessions))
    return damaged;
  if (version != kSnapshotVersion)
    return make_error(std::errc::not_supported, "the directory is of version " + std::to_string(version) +
                                                    "; use a godwit of that version");
  bool fine = read_entries<HostEntry>(fields, "hosts", [&](HostEntry e) { state.hosts[e.name] = e; }) &&
              read_entries<PodEntry>(fields, "pods", [&](PodEntry e) { state.pods[e.id] = e; }) &&
              read_entries<ListenerEntry>(fields, "listeners", [&](ListenerEntry e) { state.listeners[e.id] = e; }) &&
              read_entries<PublishedPort>(fields, "published", [&](PublishedPort e) {
                state.published[{e.host, {e.address, e.port}}] = e;
              });
  if (!fine) return damaged;
  for (const auto& parts : sessions) {
    uint64_t id = 0;
    Session session;
    std::vector<std::vector<msgpack::object>> outcomes;
    if (parts.size() != 4 || !decode(parts[0], id) || !decode(parts[1], session.host) ||
        !decode(parts[2], session.floor) || !decode(parts[3], outcomes))
      return damaged;
    for (const auto& fields : outcomes) {
      uint64_t sequence = 0;
      Outcome outcome;
      Bin result;
      if (fields.size() != 4 || !decode(fields[0], sequence) || !decode(fields[1], outcome.code) ||
          !decode(fields[2], outcome.what) || !decode(fields[3], result))
        return damaged;
      outcome.result = result.data;
      session.outcomes[sequence] = std::move(outcome);
    }
    state.sessions[id] = std::move(session);
  }
  return state;
}

namespace {
template <class Map, class Set>
void compare(const Map& before, const Map& after, std::vector<Change>& gone, std::vector<Change>& come, Set set) {
  for (const auto& [key, entry] : before) {
    auto now = after.find(key);
    if (now == after.end()) set(gone.emplace_back()).before = entry;
  }
  for (const auto& [key, entry] : after) {
    auto was = before.find(key);
    if (was != before.end() && was->second == entry) continue;
    auto& change = set(come.emplace_back());
    if (was != before.end()) change.before = was->second;
    change.after = entry;
  }
}
}  // namespace

Result<void> Directory::install(std::string_view snapshot) {
  auto fresh = read_state(snapshot);
  if (!fresh) return fresh.error();
  State old = std::exchange(state_, std::move(*fresh));
  std::vector<Change> gone, come;
  compare(old.hosts, state_.hosts, gone, come, [](Change& c) -> auto& { return c.host; });
  compare(old.pods, state_.pods, gone, come, [](Change& c) -> auto& { return c.pod; });
  compare(old.listeners, state_.listeners, gone, come, [](Change& c) -> auto& { return c.listener; });
  compare(old.published, state_.published, gone, come, [](Change& c) -> auto& { return c.published; });
  std::reverse(gone.begin(), gone.end());  // ports and listeners before their pods, pods before hosts
  for (const auto& change : gone) tell(change);
  for (const auto& change : come) tell(change);
  return {};
}

}  // namespace godwit
