#include "migrate/move.hh"

#include <sys/syscall.h>
#include <unistd.h>

#include "migrate/adopt.hh"
#include "tuplespace/posix/file.hh"
#include "tuplespace/shared/members.hh"

namespace godwit::migrate {

namespace {
Error no_node(const std::string& host) {
  return make_error(std::errc::host_unreachable, "no node runs on " + host + "; start it there");
}
}  // namespace

MoveService::MoveService(Node& node) : node_(node) {
  node_.serve("pod.move", [this](const msgpack::object& params, Reply reply) { move(params, reply); });
  node_.serve("move.prepare", [this](const msgpack::object& params, Reply reply) { prepare(params, reply); });
  node_.serve("move.cancel", [this](const msgpack::object& params, Reply reply) {
    uint64_t pod, epoch;
    if (auto bad = Fields(params).need("pod", pod, "epoch", epoch)) return reply.fail(*bad);
    auto it = incoming_.find(pod);
    if (it != incoming_.end() && it->second->epoch() == epoch) it->second->cancelled();
    reply.done();
  });
  node_.on_directory_change([this](const Change& change) {
    if (change.pod.after) on_pod_change(*change.pod.after);
    if (change.host.after) on_host_restart(change.host.after->name);
  });
  node_.set_move_judge([this](uint64_t pod, int pid) {
    uint64_t control = control_of(stream_service(node_).segment(), pod);
    bool unknown = !control || outgoing_.contains(pod);  // not in its main yet; held by its move
    return unknown ? std::string() : Departure::reason_not_to_move(pid, control);
  });
  node_.on_start([this]() -> Result<void> {
    node_.loop().post([this] { settle(); });
    return {};
  });
}

// --- source -----------------------------------------------------------------------------------------------

void MoveService::move(const msgpack::object& params, Reply reply) {
  std::string name, target;
  if (auto bad = Fields(params).need("pod", name, "host", target)) return reply.fail(*bad);
  const PodEntry* pod = node_.directory().pod_named(name);
  if (!pod) return reply.fail(make_error(std::errc::no_such_process, "there is no pod " + name + "; see godwit ps"));
  if (!node_.directory().host(target))
    return reply.fail(make_error(std::errc::no_such_device_or_address, "there is no host " + target + "; see godwit hosts"));
  if (pod->host != node_.host_name()) {  // ask its own host
    const HostEntry* host = node_.directory().host(pod->host);
    if (!host || !host->present) return reply.fail(no_node(pod->host));
    Packer forward;
    forward.add(params);
    return node_.call(pod->host, "pod.move", forward.take(), [reply](Answer answer) {
      if (!answer) return reply.fail(answer.error());
      Packer out;
      reply.send(out.add(answer->get()).take());
    }, in_time(std::chrono::minutes(10)), kPeerSilence);
  }
  if (target == pod->host)
    return reply.fail(make_error(std::errc::invalid_argument,
                                 "pod " + name + " runs on " + target + " already; name another host"));
  if (outgoing_.contains(pod->id))
    return reply.fail(make_error(std::errc::device_or_resource_busy,
                                 "pod " + name + " is being moved; wait until that move has ended"));
  if (!node_.directory().host(target)->present) return reply.fail(no_node(target));
  uint64_t id = pod->id;
  bool dry_run = Fields(params).get_or("dry_run", false);
  outgoing_[id] = Outgoing::start(node_, *pod, target, dry_run, [this, id, reply](Result<MoveReport> report) {
    outgoing_.erase(id);
    if (!report) return reply.fail(report.error());
    reply.send(pack_map("pod", report->pod, "from", report->from, "to", report->to, "epoch", report->epoch,
                        "blackout_ms", report->blackout_ms, "total_ms", report->total_ms, "bytes", report->bytes,
                        "unread", report->unread.bytes,
                        "pending", report->unread.tuples));
  });
}

// --- target -----------------------------------------------------------------------------------------------

void MoveService::prepare(const msgpack::object& params, Reply reply) {
  Incoming::Plan plan;
  Bin spec, notes;
  if (auto bad = Fields(params).need("pod", plan.pod, "epoch", plan.epoch, "name", plan.name, "from", plan.source,
                                     "spec", spec, "notes", notes))
    return reply.fail(*bad);
  auto decoded = decode_notes(notes.data);
  if (!decoded) return reply.fail(decoded.error());
  plan.spec = spec.data;
  plan.notes = std::move(*decoded);
  if (!is_valid_name(plan.name)) return reply.fail(make_error(std::errc::invalid_argument, "not a pod's name"));
  uint64_t pod = plan.pod;
  if (auto earlier = incoming_.find(pod); earlier != incoming_.end()) {
    earlier->second->abandoned();
    return reply.fail(make_error(std::errc::resource_unavailable_try_again, "an earlier attempt is being cleared"));
  }
  std::string endpoint;
  auto incoming = Incoming::create(node_, std::move(plan), &endpoint, [this, pod] { incoming_.erase(pod); });
  if (!incoming) return reply.fail(incoming.error());
  incoming_[pod] = std::move(*incoming);
  reply.send(pack_map("endpoint", endpoint));
}

// A node that joined anew remembers none of its moves.
void MoveService::on_host_restart(const std::string& host) {
  for (auto& [pod, incoming] : incoming_)
    if (incoming->source() == host) incoming->abandoned();
  for (auto& [pod, outgoing] : outgoing_)
    if (outgoing->target() == host) outgoing->target_restarted();
}

void MoveService::on_pod_change(const PodEntry& pod) {
  auto it = incoming_.find(pod.id);
  if (it == incoming_.end() || pod.epoch <= it->second->epoch()) return;
  if (pod.host == node_.host_name() && pod.epoch == it->second->epoch() + 1)
    it->second->committed();
  else
    it->second->cancelled();
}

// --- after a restart -----------------------------------------------------------------------------------------

// What an earlier node left half-done: the directory says whose each pod is.
void MoveService::settle() {
  if (!node_.pod_host()) return;
  node_.replica().read_barrier([this](Result<void> done) {
    if (!done) {  // the first node is away: what is stopped stays stopped
      node_.loop().after(std::chrono::milliseconds(200), [this] { settle(); });
      return;
    }
    std::vector<PodEntry> pods;
    for (const auto& [id, pod] : node_.directory().pods()) pods.push_back(pod);
    for (const PodEntry& pod : pods) settle_pod(pod);
    for (const PodEntry& pod : pods)
      if (pod.host != node_.host_name() && !incoming_.contains(pod.id) && !outgoing_.contains(pod.id) &&
          shared::find_pod(stream_service(node_).segment(), pod.id) && !node_.pod_host()->find(pod.id))
        sweep_departed(stream_service(node_), pod.id);
  });
}

void MoveService::settle_pod(const PodEntry& pod) {
  if (outgoing_.contains(pod.id) || incoming_.contains(pod.id)) return;
  auto running = node_.pod_host()->find(pod.id);
  if (!running) return;
  StreamService& service = stream_service(node_);
  auto tell = [&](const char* what) { fprintf(stderr, "godwit node: pod %s: %s\n", pod.name.c_str(), what); };
  std::string path = node_.home().file("pods/" + pod.name + "/arrival");
  uint64_t control = control_of(service.segment(), pod.id);
  if (pod.host == node_.host_name()) {
    if (auto bytes = read_file(path)) {  // complete before the commit, stopped since
      auto record = decode_record(*bytes);
      if (record && record->epoch + 1 == pod.epoch) {
        tell("its move to this host is completed");
        (void)take_over(service, *record);
        std::map<uint64_t, UniqueFd> ends;
        for (const SocketNote& note : record->notes)
          if (note.connection) ends[note.offset] = service.take_kept(note.connection);
        introduce(service, *record, std::move(ends));
        control = control_of(service.segment(), pod.id);
      }
      ::unlink(path.c_str());
    }
    if (is_left_behind(running->pid)) {
      tell("it was left stopped, and goes on");
      (void)adopt_and_continue(running->pid, control);
    }
    node_.pod_host()->release(pod.name);
    return;
  }
  if (auto bytes = read_file(path)) {  // never committed to us, or long gone on
    auto record = decode_record(*bytes);
    if (record && record->epoch >= pod.epoch) {
      // The source has not decided: fence its commit out, then look again.
      tell("its move to this host is called off");
      node_.submit(pod_moved(pod.id, pod.epoch, pod.host), [this](Result<Packed>) { settle(); });
      return;
    }
    node_.pod_host()->discard(pod.id);
    if (record) forget_places(service, *record);
    ::unlink(path.c_str());
    return;
  }
  if (!is_left_behind(running->pid)) {  // a copy that was being built
    tell("a copy that was being built here is thrown away");
    node_.pod_host()->discard(pod.id);
    sweep_departed(service, pod.id);
    return;
  }
  tell("it has gone on elsewhere; the stopped copy here ends");
  auto view = read_control(Memory(running->pid), control);
  std::vector<shared::Offset> to_free;
  if (view) to_free = give_up_ends(service, pod.id, running->pid, *view);
  clear_alive_words(service.segment(), pod.id);
  node_.pod_host()->departed(pod.id);
  (void)adopt_and_kill(running->pid);
  node_.pod_host()->discard(pod.id);
  for (shared::Offset run : to_free) service.streams().free_run(run);
  shared::remove_member(service.streams().self(), pod.id);
}

void register_migrate(Node& node) {
  static std::vector<MoveService*>& all = *new std::vector<MoveService*>;  // never destroyed, as their nodes' streams
  all.push_back(new MoveService(node));
}

}  // namespace godwit::migrate
