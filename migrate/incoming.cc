#include "migrate/incoming.hh"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>

#include "migrate/on_loop.hh"
#include "tuplespace/fault.hh"
#include "tuplespace/posix/file.hh"
#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/members.hh"
#include "tuplespace/streams/mediator.hh"

namespace godwit::migrate {

using shared::Offset;
using StreamSocket = shared::Socket;

namespace {

constexpr auto kArrivalPatience = std::chrono::minutes(10);  // for all of the pre-copy
constexpr auto kDoubtAfter = std::chrono::seconds(3);        // complete, and no word of the commit

Error no_room(const char* what) {
  return make_error(std::errc::no_space_on_device, std::string("place the pod's ") + what + "; make room in /dev/shm");
}

template <class T>
bool element(const msgpack::object& array, uint32_t index, T& to) {
  return array.type == msgpack::type::ARRAY && index < array.via.array.size &&
         godwit::decode(array.via.array.ptr[index], to);
}

}  // namespace

std::string encode(const ArrivalRecord& record) {
  Packer out;
  out.array(6).add(record.pod).add(record.epoch).add(record.source).add(Bin{encode(record.notes)});
  out.array(record.places.size());
  for (const auto& [from, to] : record.places) out.array(3).add(from).add(to).add(record.existing.contains(from));
  out.add(Bin{record.captured});
  return out.take();
}

Result<ArrivalRecord> decode_record(std::string_view bytes) {
  auto object = unpack(bytes);
  if (!object) return object.error();
  ArrivalRecord record;
  Bin notes, captured;
  std::vector<msgpack::object> places;
  const msgpack::object& top = object->get();
  bool good = element(top, 0, record.pod) && element(top, 1, record.epoch) && element(top, 2, record.source) &&
              element(top, 3, notes) && element(top, 4, places) && element(top, 5, captured);
  for (size_t i = 0; good && i < places.size(); ++i) {
    uint64_t from, to;
    bool existing;
    good = element(places[i], 0, from) && element(places[i], 1, to) && element(places[i], 2, existing);
    if (!good) break;
    record.places[from] = to;
    if (existing) record.existing[from] = true;
  }
  if (!good) return make_error(std::errc::bad_message, "the record of an arrival is malformed");
  auto decoded = decode_notes(notes.data);
  if (!decoded) return decoded.error();
  record.notes = std::move(*decoded);
  record.captured = captured.data;
  return record;
}

// --- the commit's consequences ----------------------------------------------------------------------------

Result<void> take_over(StreamService& service, const ArrivalRecord& record) {
  auto captured = Captured::parse(record.captured);
  if (!captured) return captured.error();
  for (const auto& [from, yes] : record.existing) {
    StreamSocket& socket = service.streams().at(record.places.at(from));
    if (auto far = service.far().find(socket.id); far.socket) {
      // What the pod wrote last, and how far it had read, came with it: its peer has not heard of that.
      service.streams().ring(socket, far.side, ~0u);
      service.far().remove(socket);
    }
  }
  uint32_t epoch = static_cast<uint32_t>(record.epoch + 1);
  if (auto put = captured->put_ends(service.segment(), record.pod, epoch, record.places); !put) return put;
  for (const SocketNote& note : record.notes) {
    auto place = record.places.find(note.offset);
    if (note.listener && place != record.places.end())
      service.release_listener(note.listener, service.streams().at(place->second));
  }
  keep_mediators_off(service.streams().self(), record.pod, false);
  return {};
}

void introduce(StreamService& service, const ArrivalRecord& record, std::map<uint64_t, UniqueFd> ends) {
  for (auto& [from, ours] : ends) {
    auto place = record.places.find(from);
    if (place == record.places.end() || !ours.valid()) continue;
    StreamSocket& socket = service.streams().at(place->second);
    uint32_t sides = sides_of(socket, record.pod);
    if (sides != 1 && sides != 2) continue;
    // Whoever sleeps at the pod's end looks again: what rang on the old host rang there.
    char bell = 0;
    (void)!::send(ours.get(), &bell, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)service.far().add(socket, sides == 1 ? 1 : 0, std::move(ours), false);
  }
}

void forget_places(StreamService& service, const ArrivalRecord& record) {
  uint32_t member = shared::find_pod(service.segment(), record.pod);
  uint64_t area = member ? service.segment().header().members[member].area : 0;
  for (const auto& [from, to] : record.places) {
    if (record.existing.contains(from) || to == area) continue;
    auto note = std::find_if(record.notes.begin(), record.notes.end(),
                             [&, from = from](const SocketNote& n) { return n.offset == from; });
    if (note != record.notes.end() && note->connection)
      service.forget(service.streams().at(to), note->sides == 1 ? 1 : 0);
    service.streams().free_run(to);
  }
  shared::reap(service.streams().self());
  shared::remove_member(service.streams().self(), record.pod);
}

// --- the move ------------------------------------------------------------------------------------------------

Incoming::Incoming(Node& node, Plan plan, std::function<void()> on_end)
    : node_(node), service_(stream_service(node)), plan_(std::move(plan)), on_end_(std::move(on_end)) {
  record_.pod = plan_.pod;
  record_.epoch = plan_.epoch;
  record_.source = plan_.source;
  record_.notes = plan_.notes;
}

Result<std::unique_ptr<Incoming>> Incoming::create(Node& node, Plan plan, std::string* endpoint,
                                                   std::function<void()> on_end) {
  std::unique_ptr<Incoming> incoming(new Incoming(node, std::move(plan), std::move(on_end)));
  auto channel = MoveChannel::listen(node.transport(), "tcp://" + node.listen_address() + ":*", endpoint);
  if (!channel) return channel.error();
  incoming->channel_ = std::move(*channel);
  StreamService& service = stream_service(node);
  if (shared::find_pod(service.segment(), incoming->plan_.pod))
    return make_error(std::errc::resource_unavailable_try_again, "an earlier copy of the pod is still on the target");
  if (int e = shared::add_pod(service.streams().self(), incoming->plan_.pod, &incoming->member_); e)
    return no_room("slots");
  keep_mediators_off(service.streams().self(), incoming->plan_.pod, true);
  incoming->segment_file_ = UniqueFd(
      ::open(("/dev/shm/" + segment_name(node.home())).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!incoming->segment_file_.valid()) return errno_error("open the segment");
  incoming->thread_ = std::thread([raw = incoming.get()] { raw->run(); });
  return incoming;
}

Incoming::~Incoming() {
  if (thread_.joinable()) thread_.join();  // it has said that it is done
}

// The thread: builds, waits for the directory's word, and lets the program go on or throws it away.
void Incoming::run() {
  std::unique_ptr<Arrival> arrival;
  auto built = build(arrival);
  Decision decision = Decision::kThrowAway;
  if (!built) {
    (void)channel_->send("failed " + built.error().message());
  } else {
    GODWIT_FAULT_POINT("move.target.ready");
    (void)channel_->send("ready");
    node_.loop().post([this] { doubt_timer_ = node_.loop().after(kDoubtAfter, [this] { doubt(); }); });
    decision = decision_.get_future().get();
  }
  GODWIT_FAULT_POINT("move.target.decided");
  if (decision == Decision::kGo) {
    arrival->resume();
    show("");
    (void)channel_->send("resumed");
  } else if (arrival) {
    arrival->abandon();
  }
  arrival.reset();
  if (decision == Decision::kThrowAway && node_.pod_host()) node_.pod_host()->discard(plan_.pod);
  node_.loop().post([this, decision] {
    if (decision == Decision::kThrowAway) throw_away();
    auto on_end = on_end_;
    on_end();
  });
}

Result<void> Incoming::build(std::unique_ptr<Arrival>& arrival) {
  arrival = std::make_unique<Arrival>(host());
  auto both = arrival->run(*channel_, Clock::now() + kArrivalPatience);
  if (!both) return both.error();
  auto object = unpack(*both);
  if (!object) return object.error();
  Bin captured, held;
  if (auto bad = Fields(object->get()).need("captured", captured, "held", held)) return *bad;
  if (auto taken = node_.pod_host()->take(plan_.name, held.data); !taken) return taken;
  record_.captured = captured.data;
  return put();
}

ArrivalHost Incoming::host() {
  ArrivalHost host;
  host.spawn = [this](const SpawnRequest& request) { return spawn(request); };
  host.segment = segment_file_.get();
  host.place = [this](const ControlPiece& piece) {
    return on_loop(node_.loop(), [&] { return place(piece); });
  };
  host.placeholder = [this](uint32_t, Role role, uint32_t, const ControlPiece& piece) {
    return on_loop(node_.loop(), [&] { return placeholder(role, piece); });
  };
  host.replace = [this](uint32_t number, const std::string&, uint32_t flags) -> std::optional<UniqueFd> {
    if (number > 2 || !made_.stdio[number].valid()) return std::nullopt;
    fcntl(made_.stdio[number].get(), F_SETFL, flags & O_NONBLOCK);
    return UniqueFd(fcntl(made_.stdio[number].get(), F_DUPFD_CLOEXEC, 0));
  };
  return host;
}

Result<Spawned> Incoming::spawn(const SpawnRequest& request) {
  if (!node_.pod_host()) return make_error(std::errc::operation_not_supported, "this node makes no pods");
  auto made = node_.pod_host()->make(PodToMake{plan_.spec, segment_name(node_.home()), member_, plan_.pod, request.pid,
                                               request.monotonic_shift_ns, request.boottime_shift_ns});
  if (!made) return made.error();
  made_ = std::move(*made);
  show("frozen");  // the copy; nobody asks for it before the commit
  return Spawned{made_.pid, std::move(made_.control), made_.control_there};
}

void Incoming::show(std::string state) {
  node_.loop().post([this, state = std::move(state)] {
    if (auto* pods = node_.pod_controller()) pods->set_state(plan_.name, state);
  });
}

const SocketNote* Incoming::note_of(uint64_t offset) const {
  for (const SocketNote& note : record_.notes)
    if (note.offset == offset) return &note;
  return nullptr;
}

// --- pieces (loop's thread) ----------------------------------------------------------------------------------

Result<uint64_t> Incoming::place(const ControlPiece& piece) {
  if (auto it = record_.places.find(piece.offset); it != record_.places.end()) return it->second;
  shared::Thread& self = service_.streams().self();
  Offset offset = 0;
  switch (piece.kind) {
    case PieceKind::kArea:
      offset = service_.segment().header().members[member_].area;
      break;
    case PieceKind::kSet:
      if (shared::allocate_set(self, plan_.pod, &offset) != 0) return no_room("epoll sets");
      shared::publish(self);
      break;
    case PieceKind::kSocket:
      return place_socket(piece);
    default:
      return make_error(std::errc::bad_message, "a piece of unknown kind");
  }
  record_.places[piece.offset] = offset;
  return offset;
}

Result<uint64_t> Incoming::place_socket(const ControlPiece& piece) {
  const SocketNote* note = note_of(piece.offset);
  if (note && note->connection) {
    auto known = service_.far().find(note->connection);
    if (known.socket && 1u << known.side == note->sides) {
      service_.streams().keep_bells(*known.socket, known.side);
      record_.existing[piece.offset] = true;
      return record_.places[piece.offset] = known.socket->offset;
    }
  }
  shared::Thread& self = service_.streams().self();
  Offset offset;
  if (shared::allocate_socket(self, AF_INET, plan_.pod, &offset) != 0) return no_room("connections");
  shared::publish(self);
  StreamSocket& socket = service_.streams().at(offset);
  for (uint32_t ring = 0; note && note->sides && ring < 2; ++ring) {
    if (shared::reserve(ring_data(socket, ring), shared::kRing) != 0) return no_room("connections");
    socket.rings[ring].reserved = shared::kRing;
  }
  return record_.places[piece.offset] = offset;
}

Result<UniqueFd> Incoming::placeholder(Role role, const ControlPiece& piece) {
  const SocketNote* note = note_of(piece.offset);
  uint32_t side = role == Role::kAccepted ? 1 : 0;
  UniqueFd fd;
  if (note && note->listener) {
    fd = service_.copy_listener(note->listener);
  } else if (note && note->connection && record_.existing.contains(piece.offset)) {
    StreamSocket& socket = service_.streams().at(record_.places.at(piece.offset));
    fd = UniqueFd(fcntl(service_.streams().placeholder(socket, side), F_DUPFD_CLOEXEC, 0));
  } else if (note && note->connection) {
    return new_end(*note, side);
  } else if (note) {
    fd = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  } else {
    return make_error(std::errc::resource_unavailable_try_again, "the program opened a connection");
  }
  if (!fd.valid()) return errno_error("make a placeholder");
  return fd;
}

// A connection whose other end is not on this host: a fresh pair, one for the pod, one for the node. When both ends are
// the pod's, it has both.
Result<UniqueFd> Incoming::new_end(const SocketNote& note, uint32_t side) {
  NewEnd& end = ends_[note.offset];
  if (!end.theirs[side].valid()) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return errno_error("make a placeholder");
    end.theirs[side] = UniqueFd(pair[0]);
    if (note.sides == 3) {
      end.theirs[1 - side] = UniqueFd(pair[1]);
    } else {
      end.ours = UniqueFd(pair[1]);
      // Kept before the commit: if this node dies, the pod's peers must not seem gone.
      StreamSocket& socket = service_.streams().at(record_.places.at(note.offset));
      socket.id = note.connection;
      service_.keep(socket, 1 - side, end.ours.get());
    }
  }
  UniqueFd copy(fcntl(end.theirs[side].get(), F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return errno_error("make a placeholder");
  return copy;
}

// The frozen pod's bytes are put where they belong, and the record is written: from here on the commit may come.
Result<void> Incoming::put() {
  return on_loop(node_.loop(), [this]() -> Result<void> {
    auto captured = Captured::parse(record_.captured);
    if (!captured) return captured.error();
    auto done = captured->put_bytes(service_.segment(), record_.places, record_.existing);
    if (!done) return done;
    return replace_file(node_.home().file("pods/" + plan_.name + "/arrival"), encode(record_), Durable::kNo);
  });
}

// --- the decision (loop's thread) ------------------------------------------------------------------------------

void Incoming::decide(Decision decision) {
  if (decided_.exchange(true)) return;
  if (doubt_timer_) node_.loop().cancel(doubt_timer_);
  decision_.set_value(decision);
}

void Incoming::committed() {
  if (decided_) return;
  GODWIT_FAULT_POINT("move.target.committed");
  if (auto done = take_over(service_, record_); !done)
    fprintf(stderr, "godwit node: pod %s: %s\n", plan_.name.c_str(), done.error().message().c_str());
  decide(Decision::kGo);
  std::map<uint64_t, UniqueFd> ends;
  for (auto& [offset, end] : ends_) ends[offset] = std::move(end.ours);
  ends_.clear();
  introduce(service_, record_, std::move(ends));
  GODWIT_FAULT_POINT("move.target.taken_over");
  ::unlink(node_.home().file("pods/" + plan_.name + "/arrival").c_str());
}

void Incoming::cancelled() { decide(Decision::kThrowAway); }

void Incoming::abandoned() {
  channel_->cut();
  if (!doubt_timer_) return;
  node_.loop().cancel(doubt_timer_);
  doubt();
}

// Complete, and nothing heard: the source may be gone before or after the commit. Taking the entry to the next epoch at
// the source fences the commit out, if it has not happened; if it has, this is refused and the news is on its way.
void Incoming::doubt() {
  doubt_timer_ = 0;
  if (decided_) return;
  node_.submit(pod_moved(plan_.pod, plan_.epoch, plan_.source), [](Result<Packed>) {});
  doubt_timer_ = node_.loop().after(kDoubtAfter, [this] { doubt(); });
}

void Incoming::throw_away() {
  ends_.clear();
  forget_places(service_, record_);
  ::unlink(node_.home().file("pods/" + plan_.name + "/arrival").c_str());
}

}  // namespace godwit::migrate
