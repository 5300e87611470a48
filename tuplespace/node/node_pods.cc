// The node's methods about pods: facts of all hosts in one answer, and signals and logs sent on to the
// host that runs the pod.
#include "tuplespace/node/gather.hh"

namespace godwit {
namespace {

constexpr auto kFactsPatience = std::chrono::seconds(2);  // a host that is away holds ps up no longer
constexpr std::chrono::milliseconds kControlPatience = std::chrono::seconds(30);
constexpr uint64_t kMaxLogChunk = uint64_t{1} << 20;

Error unknown_pod(const std::string& name) {
  return make_error(std::errc::no_such_process, "no pod named " + name + "; see godwit ps");
}

Packed pack_facts(const PodFacts& f) {
  return pack_map("pod", f.pod, "pid", f.pid, "state", f.state, "movable", f.movable, "reason", f.reason, "command",
                  f.command, "connections", f.connections, "bytes_in", f.bytes_in, "bytes_out", f.bytes_out);
}

std::string dotted(uint32_t address) {
  return std::to_string(address >> 24) + "." + std::to_string(address >> 16 & 255) + "." +
         std::to_string(address >> 8 & 255) + "." + std::to_string(address & 255);
}

// The directory's word on a pod with its host's facts; a host that is silent leaves them unknown.
Packed pack_row(const PodEntry& pod, const Fields& facts, bool reached) {
  std::string state = facts.get_or<std::string>("state", reached ? "starting" : "unreachable");
  std::string reason = facts.get_or<std::string>("reason", reached ? "" : "host " + pod.host + " does not answer");
  return pack_map("pod", pod.name, "host", pod.host, "pid", facts.get_or<int>("pid", 0), "state", state, "epoch",
                  pod.epoch, "movable", facts.get_or<bool>("movable", false), "reason", reason, "command",
                  facts.get_or<std::vector<std::string>>("command", {}), "connections",
                  facts.get_or<uint64_t>("connections", 0), "bytes_in", facts.get_or<uint64_t>("bytes_in", 0),
                  "bytes_out", facts.get_or<uint64_t>("bytes_out", 0), "virtual_host", pod.virtual_host,
                  "virtual_address", dotted(pod.virtual_address));
}

Packed pack_connection(const ConnectionFacts& c) {
  return pack_map("connection", c.connection, "pods", c.pods, "addresses", c.addresses, "living", c.living, "accepted",
                  c.accepted, "tails", c.tails, "heads", c.heads);
}

std::optional<ConnectionFacts> read_connection(const Fields& fields) {
  ConnectionFacts c;
  if (fields.need("connection", c.connection, "pods", c.pods, "addresses", c.addresses, "living", c.living, "accepted",
                  c.accepted, "tails", c.tails, "heads", c.heads))
    return std::nullopt;
  return c;
}

// Two hosts know a connection between them: what either has seen happen has happened.
void merge(ConnectionFacts& to, const ConnectionFacts& from) {
  if (to.connection.empty()) {
    to = from;
    return;
  }
  to.accepted |= from.accepted;
  for (size_t i = 0; i < 2; ++i) {
    to.pods[i] = std::max(to.pods[i], from.pods[i]);  // 0: not known there yet
    to.living[i] = to.living[i] && from.living[i];
    to.tails[i] = std::max(to.tails[i], from.tails[i]);
    to.heads[i] = std::max(to.heads[i], from.heads[i]);
  }
}

// A connection as the pod of one of its ends sees it.
Packed pack_end(const ConnectionFacts& c, uint32_t end, const PodEntry& pod, bool pending) {
  std::string state = !c.accepted ? "connecting" : c.living[0] && c.living[1] ? "open" : "closing";
  auto unread = [&](size_t way) { return c.tails[way] - std::min(c.heads[way], c.tails[way]); };
  Packer packer;
  packer.map(pending ? 9 : 7).add("connection").add(c.connection).add("pod").add(pod.name).add("host").add(pod.host);
  packer.add("end").add(end ? "server" : "client").add("state").add(state);
  packer.add("from").add(c.addresses[0]).add("to").add(c.addresses[1]);
  if (pending) packer.add("pending_c>s").add(unread(0)).add("pending_s>c").add(unread(1));
  return packer.take();
}

std::vector<std::string> hosts_with_pods(const Directory& directory) {
  std::map<std::string, bool> hosts;
  for (const auto& [id, pod] : directory.pods()) hosts[pod.host] = true;
  std::vector<std::string> names;
  for (const auto& [name, ignored] : hosts) names.push_back(name);
  return names;
}

bool wants_log(const msgpack::object& params) { return Fields(params).get_or<std::string>("verb", "") == "log"; }

}  // namespace

void Node::serve_pod_methods() {
  serve("pod.facts", [this](const auto&, Reply reply) {
    if (!pods_) return reply.send(pack(std::vector<uint64_t>{}));
    pods_->facts([reply](std::vector<PodFacts> all) {
      Packer packer;
      packer.array(all.size());
      for (const auto& facts : all) packer.add(Raw{pack_facts(facts)});
      reply.send(packer.take());
    });
  }, Retry::kRepeated);
  serve("pod.connections", [this](const auto&, Reply reply) {
    if (!pods_) return reply.send(pack(std::vector<uint64_t>{}));
    pods_->connections([reply](std::vector<ConnectionFacts> all) {
      Packer packer;
      packer.array(all.size());
      for (const auto& connection : all) packer.add(Raw{pack_connection(connection)});
      reply.send(packer.take());
    });
  }, Retry::kRepeated);
  serve("pods", [this](const auto&, Reply reply) { gather_pods(reply); }, Retry::kRepeated);
  serve("connections", [this](const auto& params, Reply reply) {
    bool pending = Fields(params).get_or<bool>("pending", false);
    ask_all(*this, hosts_with_pods(directory()), "pod.connections", pack_map(), in_time(kFactsPatience),
            [this, pending, reply](Gathering& all) {
      std::map<std::string, ConnectionFacts> merged;
      for (const auto& [host, answer] : all.answers) {
        std::vector<msgpack::object> connections;
        if (!answer || !decode(answer->get(), connections)) continue;
        for (const auto& connection : connections)
          if (auto facts = read_connection(Fields(connection))) merge(merged[facts->connection], *facts);
      }
      Packed rows;
      uint32_t count = 0;
      for (const auto& [id, facts] : merged)
        for (uint32_t end = 0; end < 2; ++end)
          if (const PodEntry* pod = directory().pod(facts.pods[end]); pod && facts.living[end]) {
            rows += pack_end(facts, end, *pod, pending);
            ++count;
          }
      reply.send(Packer().array(count).add(Raw{rows}).take());
    });
  }, Retry::kRepeated);
  serve("pod.control", [this](const auto& params, Reply reply) { control_local_pod(params, reply); });
  serve("pods.control", [this](const auto& params, Reply reply) { control_pod(params, reply); });
  serve("pods.wait", [this](const auto& params, Reply reply) { wait_for_end(params, reply); }, Retry::kRepeated);
}

void Node::gather_pods(Reply reply) {
  ask_all(*this, hosts_with_pods(directory()), "pod.facts", pack_map(), in_time(kFactsPatience), [this, reply](Gathering& all) {
    std::map<uint64_t, msgpack::object> facts;  // by pod
    for (const auto& [host, answer] : all.answers) {
      std::vector<msgpack::object> rows;
      if (!answer || !decode(answer->get(), rows)) continue;
      for (const auto& row : rows) {
        const PodEntry* pod = directory().pod(Fields(row).get_or<uint64_t>("pod", 0));
        if (pod && pod->host == host) facts[pod->id] = row;  // else the copy of a move
      }
    }
    Packer packer;
    packer.array(directory().pods().size());
    for (const auto& [id, pod] : directory().pods()) {
      auto answer = all.answers.find(pod.host);
      bool reached = answer != all.answers.end() && answer->second.has_value();
      packer.add(Raw{pack_row(pod, Fields(facts[id]), reached)});
    }
    reply.send(packer.take());
  });
}

// Sent on to the pod's host. A pod that the directory no longer has may still have its log here, or where it ended.
void Node::control_pod(const msgpack::object& params, Reply reply) {
  std::string name;
  if (auto bad = Fields(params).need("pod", name)) return reply.fail(*bad);
  const PodEntry* pod = directory().pod_named(name);
  if (!pod && !wants_log(params)) return reply.fail(unknown_pod(name));
  auto asked = std::chrono::milliseconds(Fields(params).get_or<uint32_t>("milliseconds", kControlPatience.count()));
  control_pod_on(pod ? pod->host : self_.name, name, pack(params), reply, in_time(std::min(asked, kControlPatience)));
}

// A pod that has left in the meantime is asked where it is now.
void Node::control_pod_on(const std::string& host, const std::string& name, Packed params, Reply reply,
                          Deadline deadline) {
  if (const HostEntry* entry = directory().host(host); entry && !entry->present)
    return reply.fail(make_error(std::errc::host_unreachable, "no node runs on " + host + "; start it there"));
  call(host, "pod.control", params, [this, host, name, params, reply, deadline](Answer answer) {
    if (answer) return reply.send(pack(answer->get()));
    if (answer.error().code != std::errc::no_such_process) return reply.fail(answer.error());
    const PodEntry* pod = directory().pod_named(name);
    if (pod && pod->host != host) return control_pod_on(pod->host, name, params, reply, deadline);
    if (!pod && wants_log(unpack(params)->get())) return find_log(name, params, reply);
    reply.fail(answer.error());
  }, deadline, kPeerSilence);
}

void Node::find_log(const std::string& name, Packed params, Reply reply) {
  std::vector<std::string> others;
  for (const auto& [host, entry] : directory().hosts())
    if (host != self_.name && entry.present) others.push_back(host);
  ask_all(*this, others, "pod.control", params, in_time(kFactsPatience), [name, reply](Gathering& all) {
    for (const auto& [host, answer] : all.answers)
      if (answer) return reply.send(pack(answer->get()));
    reply.fail(unknown_pod(name));
  });
}

void Node::control_local_pod(const msgpack::object& params, Reply reply) {
  Fields fields(params);
  std::string name, verb;
  if (auto bad = fields.need("pod", name, "verb", verb)) return reply.fail(*bad);
  if (!pods_) return reply.fail(unknown_pod(name));
  if (verb == "signal") {
    int signo = 0;
    if (auto bad = fields.need("signo", signo)) return reply.fail(*bad);
    return pods_->signal(name, signo, [reply](Result<void> result) { reply.finish(std::move(result)); });
  }
  if (verb != "log") return reply.fail(make_error(std::errc::invalid_argument, "unknown verb '" + verb + "'"));
  uint64_t limit = std::min(fields.get_or<uint64_t>("limit", kMaxLogChunk), kMaxLogChunk);
  pods_->log(name, fields.get_or<uint64_t>("offset", 0), limit, fields.get_or<bool>("wait", false),
             [reply](Result<PodLog> log) {
               if (!log) return reply.fail(log.error());
               reply.send(pack_map("data", Bin{log->data}, "next", log->next, "ended", log->ended));
             });
}

void Node::wait_for_end(const msgpack::object& params, Reply reply) {
  std::string name;
  if (auto bad = Fields(params).need("pod", name)) return reply.fail(*bad);
  const PodEntry* pod = directory().pod_named(name);
  if (!pod) return reply.done();
  ends_.emplace(pod->id, reply);
}

}  // namespace godwit
