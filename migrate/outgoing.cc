#include "migrate/outgoing.hh"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "migrate/departure_parts.hh"
#include "migrate/on_loop.hh"
#include "tuplespace/fault.hh"
#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/members.hh"
#include "tuplespace/streams/mediator.hh"

namespace godwit::migrate {

using StreamSocket = shared::Socket;

namespace {

constexpr auto kBetweenAttempts = std::chrono::milliseconds(250);
constexpr int kAttempts = 8;                               // of a program that keeps changing
constexpr auto kChildPatience = std::chrono::seconds(3);   // for a child of the program, e.g. a BGSAVE, to end
constexpr auto kStartPatience = std::chrono::seconds(2);
constexpr auto kShortly = std::chrono::milliseconds(20);
constexpr auto kCopyPatience = std::chrono::minutes(10);
constexpr auto kFreezePatience = std::chrono::milliseconds(300);
constexpr auto kFinalPatience = std::chrono::seconds(5);
constexpr auto kResumePatience = std::chrono::seconds(10);

bool is_again(const Error& error) {
  // A target that has just come back clears what an earlier attempt has left there.
  return error.code == std::errc::resource_unavailable_try_again || error.code == std::errc::operation_canceled;
}

// Of a program whose last threads are on their way out: what failed by that fails a moment before.
constexpr int kDeathPatience = 200;  // ms

bool has_ended(const UniqueFd& program, int patience) {
  pollfd watched{program.get(), POLLIN, 0};
  return !program.valid() || ::poll(&watched, 1, patience) == 1;
}

class ForeignDescriptors {
 public:
  explicit ForeignDescriptors(int pid) : pidfd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {}
  UniqueFd copy(uint32_t number) const {
    return UniqueFd(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd_.get(), number, 0)));
  }

 private:
  UniqueFd pidfd_;
};

}  // namespace

uint64_t control_of(shared::Segment segment, uint64_t pod) {
  uint32_t member = shared::find_pod(segment, pod);
  if (!member) return 0;
  for (const shared::Process& process : segment.area_of(member)->processes)
    if (uint32_t pid = process.pid.load(); pid && pid != ~0u) return process.control;
  return 0;
}

std::vector<shared::Offset> give_up_ends(StreamService& service, uint64_t pod, int pid, const ControlView& control) {
  ForeignDescriptors theirs(pid);
  // The lowest number of each end: any copy of the description will do.
  std::map<std::pair<uint32_t, Role>, uint32_t> number_of;
  for (uint32_t number = 0; number < control.descriptors.size(); ++number)
    if (uint32_t word = control.descriptors[number])
      number_of.emplace(std::pair(descriptor_piece(word), descriptor_role(word)), number);
  std::vector<shared::Offset> to_free;
  for (uint32_t index = 0; index < control.pieces.size(); ++index) {
    const ControlPiece& piece = control.pieces[index];
    if (!piece.address || piece.kind == PieceKind::kArea) continue;
    if (piece.kind != PieceKind::kSocket) {
      to_free.push_back(piece.offset);
      continue;
    }
    StreamSocket& socket = service.streams().at(piece.offset);
    uint32_t sides = sides_of(socket, pod), side = sides == 2 ? 1 : 0;
    auto number = number_of.find({index, side ? Role::kAccepted : Role::kSocket});
    if (sides == 1 || sides == 2) {
      auto far = service.far().find(socket.id);
      if (far.socket && far.side == side) continue;  // given up already, by a node that died after it
      if (far.socket) {
        service.far().remove(socket);
      } else if (!service.streams().lives_here(socket.ends[1 - side].pod)) {  // an earlier node's far connection
        (void)service.take_kept(socket.id);
        service.forget(socket, 1 - side);
      } else if (number != number_of.end()) {
        // The pod may have been stopped between its last bytes and the bell for them.
        if (service.far().add(socket, side, theirs.copy(number->second), false))
          service.streams().ring(socket, side, ~0u);
        continue;  // the peer's piece stays
      }
    } else if (!sides && socket.listener && number != number_of.end()) {
      service.adopt_listener(socket.listener, theirs.copy(number->second));
    }
    to_free.push_back(piece.offset);
  }
  return to_free;
}

void sweep_departed(StreamService& service, uint64_t pod) {
  shared::Segment segment = service.segment();
  std::vector<shared::Offset> to_free;
  shared::for_each_run(segment, [&](shared::Offset offset, const shared::Chunk& chunk) {
    if (chunk.kind == shared::RunKind::kSet && chunk.pod == pod) to_free.push_back(offset);
    if (chunk.kind != shared::RunKind::kSocket) return;
    StreamSocket& socket = *segment.at<StreamSocket>(offset);
    uint32_t sides = sides_of(socket, pod);
    if (!sides && (chunk.pod != pod || socket.state.load() == shared::SocketState::kConnected)) return;
    auto far = service.far().find(socket.id);
    if (sides && far.socket == &socket && far.side == (sides == 2 ? 1u : 0u)) return;  // a peer here uses it
    if (sides && far.socket == &socket) service.far().remove(socket);
    to_free.push_back(offset);
  });
  for (shared::Offset run : to_free) {
    if (segment.chunks()[run / shared::kChunk].kind == shared::RunKind::kSocket)
      for (uint32_t side : {0u, 1u}) service.forget(*segment.at<StreamSocket>(run), side);
    service.streams().free_run(run);
  }
  shared::remove_member(service.streams().self(), pod);
}

void clear_alive_words(shared::Segment segment, uint64_t pod) {
  uint32_t member = shared::find_pod(segment, pod);
  if (!member) return;
  shared::Area& area = *segment.area_of(member);
  for (uint32_t i = 1; i < area.slot_count.load(); ++i) area.slots[i].alive_word().store(0);
}

Outgoing::Outgoing(Node& node, const PodEntry& pod, std::string target, bool dry_run,
                   std::function<void(Result<MoveReport>)> on_end)
    : node_(node), service_(stream_service(node)), pod_(pod), target_(std::move(target)), dry_run_(dry_run),
      on_end_(std::move(on_end)), began_(Clock::now()) {
  report_.pod = pod.name;
  report_.from = node.host_name();
  report_.to = target_;
}

std::unique_ptr<Outgoing> Outgoing::start(Node& node, const PodEntry& pod, std::string target, bool dry_run,
                                          std::function<void(Result<MoveReport>)> on_end) {
  std::unique_ptr<Outgoing> outgoing(new Outgoing(node, pod, std::move(target), dry_run, std::move(on_end)));
  outgoing->thread_ = std::thread([raw = outgoing.get()] { raw->run(); });
  return outgoing;
}

Outgoing::~Outgoing() {
  if (thread_.joinable()) thread_.join();  // it has said that it is done
}

void Outgoing::run() {
  auto report = std::make_shared<Result<MoveReport>>(move());
  node_.loop().post([this, report] {
    auto on_end = std::move(on_end_);
    on_end(std::move(*report));
  });
}

Result<MoveReport> Outgoing::move() {
  if (!node_.pod_host()) return make_error(std::errc::operation_not_supported, "this node makes no pods");
  auto running = node_.pod_host()->find(pod_.id);
  if (!running) return explain(running.error(), true);
  if (!running->reason.empty()) return explain(cannot_move(running->reason), false);
  UniqueFd program(static_cast<int>(syscall(SYS_pidfd_open, running->pid, 0)));
  uint64_t control = await_control();
  Result<void> done = cannot_move("the wrapper is not in it");
  for (int i = 0; control && i < kAttempts; ++i) {
    done = attempt(*running, control);
    if (done || !is_again(done.error())) break;
    std::this_thread::sleep_for(kBetweenAttempts);
  }
  if (!done) {
    bool refused = done.error().code == std::errc::operation_not_supported;
    Error why = explain(done.error(), has_ended(program, refused ? 0 : kDeathPatience));
    show("");
    if (!dry_run_) (void)call_target("pod.log_dropped", pack_map("pod", pod_.id), std::chrono::seconds(2));
    return why;
  }
  report_.total_ms = ms_since(began_);
  return report_;
}

// For ps. In its order with all else that is asked of the loop.
void Outgoing::show(std::string state) {
  node_.loop().post([this, name = pod_.name, state = std::move(state)] {
    if (auto* pods = node_.pod_controller()) pods->set_state(name, state);
  });
}

// For who asked for the move. Whatever went wrong, the move was refused or has failed, and the pod goes on here unless it
// has ended; and of what a pod holds, ps has the user's words and the engine its own.
Error Outgoing::explain(const Error& error, bool ended) {
  auto failed = [](std::string what) { return make_error(std::errc::operation_canceled, std::move(what)); };
  if (ended) return failed("pod " + pod_.name + " ended during the move; see godwit logs " + pod_.name);
  std::string what = is_again(error) ? error.what : error.message();
  std::string stays = "; pod " + pod_.name + " stays on " + node_.host_name();
  if (error.code == std::errc::operation_not_supported) {
    auto all = from_loop<std::vector<PodFacts>>(node_.loop(), [this](auto done) { node_.pod_controller()->facts(done); });
    what = error.what;
    for (const PodFacts& facts : all)
      if (facts.pod == pod_.id && !facts.reason.empty()) what = cannot_move(facts.reason).what;
  }
  return failed(what.find("; ") == std::string::npos ? what + stays : what);
}

// A program that has just been started may not have come to its main yet.
uint64_t Outgoing::await_control() {
  for (auto until = Clock::now() + kStartPatience;; std::this_thread::sleep_for(kShortly)) {
    uint64_t control = on_loop(node_.loop(), [&] { return control_of(service_.segment(), pod_.id); });
    if (control || Clock::now() > until) return control;
  }
}

// A program with children is waited for: a snapshot's child ends by itself.
Result<std::unique_ptr<Departure>> Outgoing::open_when_single(int pid, uint64_t control) {
  auto until = Clock::now() + kChildPatience;
  for (;;) {
    auto departure = Departure::open(pid, control);
    bool has_children = !departure && departure.error().code == std::errc::device_or_resource_busy;
    if (!has_children || Clock::now() > until) return departure;
    std::this_thread::sleep_for(kShortly);
  }
}

Answer Outgoing::call_target(std::string_view method, Packed params, Loop::Clock::duration patience) {
  return from_loop<Answer>(node_.loop(), [&, this](auto done) {
    node_.call(target_, method, params, done, in_time(patience));
  });
}

Result<std::unique_ptr<MoveChannel>> Outgoing::prepare_target(const std::string& spec) {
  std::string notes = on_loop(node_.loop(), [&] { return encode(note_sockets(service_.segment(), pod_.id)); });
  Answer answer = call_target("move.prepare",
                              pack_map("pod", pod_.id, "epoch", pod_.epoch, "name", pod_.name, "from",
                                       node_.host_name(), "spec", Bin{spec}, "notes", Bin{notes}),
                              std::chrono::seconds(10));
  if (!answer) return answer.error();
  std::string endpoint;
  if (auto bad = Fields(answer->get()).need("endpoint", endpoint)) return *bad;
  return MoveChannel::connect(node_.transport(), endpoint);
}

Result<void> Outgoing::attempt(const RunningPod& running, uint64_t control) {
  auto opened = open_when_single(running.pid, control);
  if (!opened) return opened.error();
  Departure& departure = **opened;
  if (dry_run_) return departure.survey();
  if (auto known = refresh_entry(); !known) return known;
  show("moving");
  log_sent_ = 0;
  if (auto sent = send_log(false); !sent) return sent;
  auto channel = prepare_target(running.spec);
  if (!channel) return channel.error();
  on_loop(node_.loop(), [&] { channel_ = std::move(*channel); });
  auto step = departure.survey();
  if (step) step = departure.precopy(*channel_, Clock::now() + kCopyPatience);
  if (step) step = send_log(true);
  if (step) show("frozen");
  auto keep_off = [&](bool off) {
    on_loop(node_.loop(), [&] { keep_mediators_off(service_.streams().self(), pod_.id, off); });
  };
  if (step) keep_off(true);
  frozen_ = Clock::now();
  if (step) step = departure.freeze(Clock::now() + kFreezePatience);
  if (step) step = hand_over(departure);
  if (step) step = wait_for("ready", Clock::now() + kFinalPatience);
  if (step) step = commit();
  if (!step) {
    departure.thaw();
    keep_off(false);
    show("moving");
    node_.pod_host()->release(pod_.name);
    (void)channel_->send("cancelled");
    (void)call_target("move.cancel", pack_map("pod", pod_.id, "epoch", pod_.epoch), std::chrono::seconds(2));
    // A frozen program that could not leave its sections in time is a matter of luck.
    if (step.error().code == std::make_error_code(std::errc::timed_out) && report_.blackout_ms == 0)
      return make_error(std::errc::resource_unavailable_try_again, step.error().what);
    return step;
  }
  GODWIT_FAULT_POINT("move.source.committed");
  report_.bytes = departure.figures().sent_bytes + departure.figures().last_bytes;
  finish(departure, running.pid);
  return {};
}

// The epoch grows when a target calls an attempt off.
Result<void> Outgoing::refresh_entry() {
  return on_loop(node_.loop(), [this]() -> Result<void> {
    const PodEntry* entry = node_.directory().pod(pod_.id);
    if (!entry || entry->host != node_.host_name()) return make_error(std::errc::no_such_process, "the pod has ended");
    pod_ = *entry;
    return {};
  });
}

// As far as it goes now, while the program runs: before its copy is made, and before the freeze what has come since. The
// rest is in hold().
Result<void> Outgoing::send_log(bool made) {
  for (std::optional<uint64_t> end; !end || log_sent_ < *end;) {
    auto piece = node_.pod_host()->log(pod_.name, log_sent_);
    if (!piece) return piece.error();
    Answer kept = call_target("pod.log", pack_map("pod", pod_.id, "made", made, "offset", log_sent_, "data",
                                                  Bin{piece->bytes}), std::chrono::seconds(10));
    if (!kept) return kept.error();
    log_sent_ += piece->bytes.size();
    if (!end) end = piece->size;
  }
  return {};
}

Result<void> Outgoing::hand_over(Departure& departure) {
  std::string captured = capture(service_.segment(), pod_.id, departure.control().pieces, &report_.unread);
  auto held = node_.pod_host()->hold(pod_.id, pod_.name, log_sent_);
  if (!held) return held.error();
  std::string both = pack_map("captured", Bin{captured}, "held", Bin{*held});
  return departure.hand_over(*channel_, std::move(both), Clock::now() + kFinalPatience);
}

Result<void> Outgoing::wait_for(const std::string& word, Deadline deadline) {
  auto message = channel_->receive(deadline);
  if (!message) return message.error();
  if (*message == word) return {};
  return make_error(std::errc::io_error, "the target says: " + *message);
}

// The one point that decides. Until the answer is known both copies stay stopped.
Result<void> Outgoing::commit() {
  if (GODWIT_FAULT_ERROR("move.source.committing")) return make_error(std::errc::io_error, "fault injected");
  auto done = from_loop<Result<Packed>>(node_.loop(), [&, this](auto answered) {
    node_.submit(pod_moved(pod_.id, pod_.epoch, target_), answered);
  });
  if (!done && done.error().code != std::make_error_code(std::errc::host_unreachable)) return done.error();
  while (!done) {
    auto moved = read_outcome();
    if (!moved) continue;
    if (*moved) break;
    return done.error();
  }
  report_.epoch = pod_.epoch + 1;
  return {};
}

// After a barrier no command that we have sent can still happen, so what the directory says is the outcome.
Result<bool> Outgoing::read_outcome() {
  auto barrier = from_loop<Result<void>>(node_.loop(), [&, this](auto answered) {
    node_.replica().read_barrier(answered);
  });
  if (!barrier) return barrier.error();
  return on_loop(node_.loop(), [&] {
    const PodEntry* entry = node_.directory().pod(pod_.id);
    return entry && entry->epoch == pod_.epoch + 1 && entry->host == target_;
  });
}

// After the commit nothing here can fail any more: what this host still has of the pod goes.
void Outgoing::finish(Departure& departure, int pid) {
  auto to_free = on_loop(node_.loop(), [&] {
    return give_up_ends(service_, pod_.id, pid, departure.control());
  });
  GODWIT_FAULT_POINT("move.source.given_up");
  if (wait_for("resumed", Clock::now() + kResumePatience)) report_.blackout_ms = ms_since(frozen_);
  node_.pod_host()->departed(pod_.id);
  departure.discard([&] { clear_alive_words(service_.segment(), pod_.id); });
  node_.pod_host()->discard(pod_.id);  // returns when its supervisor is gone, so that the pod may come back
  on_loop(node_.loop(), [&] {
    for (shared::Offset run : to_free) service_.streams().free_run(run);
    shared::remove_member(service_.streams().self(), pod_.id);
    return true;
  });
  GODWIT_FAULT_POINT("move.source.finished");
}

}  // namespace godwit::migrate
