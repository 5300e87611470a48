#include "tuplespace/streams/mediator.hh"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <charconv>
#include <thread>

#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/bell.hh"
#include "tuplespace/shared/members.hh"
#include "tuplespace/shared/recovery.hh"
#include "tuplespace/streams/placeholder.hh"
#include "tuplespace/streams/streams.hh"
#include "tuplespace/streams/visit.hh"

namespace godwit {

using shared::End;
using shared::Ring;
using shared::Socket;

namespace {

constexpr uint32_t kEnded = shared::kClosed | shared::kGone;
constexpr uint32_t kServer = 1;       // the side that a mediator has
constexpr uint32_t kFromClient = 0;   // the ring that it reads

// A mediator's number in the place of a pod's: a bridge's, which routes lead to the host in its low 24 bits, and a count.
constexpr uint32_t kHostBits = 24;
constexpr uint64_t kCount = (1ull << (63 - kHostBits)) - 1;
uint64_t mediator_pod(const shared::Segment& segment) {
  shared::Header& header = segment.header();
  return own_bridge(segment) | (header.next_listener.fetch_add(1) & kCount) << kHostBits;
}
bool is_mediator(uint64_t pod) { return (pod & kBridgePod) && (pod >> kHostBits & kCount); }

bool is_late(Deadline deadline) { return std::chrono::steady_clock::now() >= deadline; }

std::string name_of(uint64_t connection) {
  char text[shared::kConnectionText];
  shared::connection_text(connection, text);
  return text;
}

// As connection_text writes it, or nothing.
std::optional<uint64_t> parse_connection(std::string_view text) {
  uint64_t host = 0, count = 0;
  size_t dash = text.find('-');
  if (dash == text.npos) return std::nullopt;
  std::from_chars(text.data(), text.data() + dash, host, 16);
  std::from_chars(text.data() + dash + 1, text.data() + text.size(), count, 16);
  uint64_t connection = host << 40 | count;
  return name_of(connection) == text ? std::optional(connection) : std::nullopt;
}

std::optional<uint32_t> parse_direction(std::string_view text) {
  for (uint32_t ring = 0; ring < 2; ++ring)
    if (text == kDirections[ring]) return ring;
  return std::nullopt;
}

// From the change of a stream to the ring for it, the slot says which connection is owed one (ring_for_dead_mediators).
class Debt {
 public:
  explicit Debt(shared::Thread& self) : slot_(*self.slot) {}
  ~Debt() { set(0); }
  Debt(const Debt&) = delete;
  void owe(const Socket& socket) { set(socket.offset); }

 private:
  void set(shared::Offset owed) {
    shared::compiler_barrier();
    slot_.owes = owed;
    shared::compiler_barrier();
  }
  shared::Slot& slot_;
};

// Where the other side of the mediator's end has nothing more to say.
bool is_finished(const Socket& socket) {
  return socket.rings[kFromClient].finished.load() || (socket.ends[0].flags.load() & kEnded) ||
         (socket.ends[kServer].flags.load() & shared::kReset);
}

Result<shared::Address> parse_host(const std::string& host, uint16_t port) {
  shared::Address address{};
  address.family = host.find(':') == host.npos ? AF_INET : AF_INET6;
  address.port = port;
  if (inet_pton(address.family, host.c_str(), address.bytes) == 1) return address;
  return make_error(std::errc::invalid_argument, "cannot listen at '" + host + "'; give a numeric address");
}

}  // namespace

// The kernel says when the last copy of a client's placeholder is gone, and when one knocks; both to descriptors, while
// who waits for tuples sleeps on a word of the segment. So a thread passes it on.
class StreamMediator::HangUps {
 public:
  static Result<std::unique_ptr<HangUps>> start(const shared::Segment& segment) {
    std::unique_ptr<HangUps> made(new HangUps(segment));
    if (!made->set_.valid() || !made->stop_.valid()) return errno_error("wait for clients");
    made->watch(made->stop_.get(), EPOLLIN);
    made->thread_ = std::thread([raw = made.get()] { raw->run(); });
    return made;
  }
  ~HangUps() {
    if (!thread_.joinable()) return;
    eventfd_write(stop_.get(), 1);
    thread_.join();
  }

  void watch(int fd, uint32_t events) {
    epoll_event event{};
    event.events = events | EPOLLET;
    event.data.fd = fd;
    epoll_ctl(set_.get(), EPOLL_CTL_ADD, fd, &event);
  }

 private:
  explicit HangUps(const shared::Segment& segment)
      : segment_(segment), set_(epoll_create1(EPOLL_CLOEXEC)), stop_(eventfd(0, EFD_CLOEXEC)) {}

  void run() {
    for (epoll_event event;;) {
      if (epoll_wait(set_.get(), &event, 1, -1) != 1) continue;  // a signal
      if (event.data.fd == stop_.get()) return;
      shared::wake_watchers(segment_);
    }
  }

  shared::Segment segment_;
  UniqueFd set_, stop_;
  std::thread thread_;
};

// What out() is given.
struct StreamMediator::Put {
  uint64_t connection;
  uint32_t ring;
  uint64_t offset;
  const FieldView* data;
  std::string name() const { return std::string(kDirections[ring]) + " of " + name_of(connection); }
};

StreamMediator::StreamMediator(shared::Thread& self) : self_(self), source_(self) {}

StreamMediator::~StreamMediator() {
  for (Listening& one : listening_) shared::remove_listener(self_, one.id);
  collect();  // who has knocked is turned away
  while (!connections_.empty()) close(connections_.begin());
  for (Listening& one : listening_) free_run(one.piece);
  if (!pod_) return;
  shared::release_slot(life_);
  shared::remove_member(self_, pod_);
}

void StreamMediator::free_run(shared::Offset run) {
  shared::intend(self_, run);
  shared::free_intent(self_);
}

// --- the mediator as a server ----------------------------------------------------------------------------

Result<void> StreamMediator::join() {
  if (pod_) return {};
  auto hang_ups = HangUps::start(self_.segment);
  if (!hang_ups) return hang_ups.error();
  uint64_t pod = mediator_pod(self_.segment);
  uint32_t member;
  life_.segment = self_.segment;
  if (shared::add_pod(self_, pod, &member, &life_) != 0)
    return make_error(std::errc::no_space_on_device,
                      "no room for another mediator in shared memory; end some, or make room in /dev/shm");
  pod_ = pod;
  hang_ups_ = std::move(*hang_ups);
  return {};
}

Result<uint16_t> StreamMediator::listen(const std::string& host, uint16_t port) {
  auto address = parse_host(host, port);
  if (!address) return address.error();
  if (auto joined = join(); !joined) return joined.error();
  shared::Offset offset;
  if (shared::allocate_socket(self_, address->family, pod_, &offset) != 0)
    return make_error(std::errc::no_space_on_device, "no room for a listener in shared memory; make room in /dev/shm");
  auto listener = enter(*self_.segment.at<Socket>(offset), &*address);
  if (!listener) {
    shared::free_intent(self_);
    return listener.error();
  }
  shared::publish(self_);
  hang_ups_->watch(listener->socket.get(), EPOLLIN);
  listening_.push_back(std::move(*listener));
  return address->port;
}

// An entry whose listener was killed keeps nobody from its port: its name is free.
Result<StreamMediator::Listening> StreamMediator::enter(Socket& piece, shared::Address* address) {
  uint64_t id = 0;
  int result = shared::add_listener(self_, piece, address, pod_, &id);
  if (shared::Listener old; result == -EADDRINUSE && shared::find_listener(self_.segment, *address, &old) &&
                            old.state.load() == shared::ListenerState::kLocal && listen_at(listener_name(self_.segment, old.id))) {
    shared::remove_listener(self_, old.id);
    result = shared::add_listener(self_, piece, address, pod_, &id);
  }
  std::string at = "cannot listen at port " + std::to_string(address->port);
  if (result == -EADDRINUSE) return make_error(std::errc::address_in_use, at + ": somebody does; choose another port");
  if (result) return make_error(std::errc::no_buffer_space, at + ": the community has as many listeners as it can; end some");
  auto socket = listen_at(listener_name(self_.segment, id));
  if (!socket) {
    shared::remove_listener(self_, id);
    return socket.error();
  }
  piece.ends[0].address = *address;
  piece.state.store(shared::SocketState::kListening, std::memory_order_release);
  return Listening{id, piece.offset, std::move(*socket)};
}

// What the kernel has to say: who has knocked, and who is gone.
void StreamMediator::collect() {
  for (const Listening& one : listening_)
    while (auto knock = accept_at(one.socket.get(), self_.segment)) {
      Socket& socket = *self_.segment.at<Socket>(knock->offset);
      if (socket.id != knock->connection || socket.state.load() != shared::SocketState::kConnected) continue;
      hang_ups_->watch(knock->placeholder.get(), 0);
      connections_[socket.id] = Connection{&socket, std::move(knock->placeholder)};
    }
  std::vector<pollfd> placeholders;
  for (const auto& [id, one] : connections_) placeholders.push_back({one.placeholder.get(), 0, 0});
  if (placeholders.empty() || ::poll(placeholders.data(), placeholders.size(), 0) <= 0) return;
  size_t i = 0;
  for (const auto& [id, one] : connections_)
    if (placeholders[i++].revents & (POLLHUP | POLLERR)) shared::note_gone(*one.socket, kServer);
}

bool StreamMediator::accept(uint64_t connection) {
  Connection& one = connections_.at(connection);
  one.accepted = true;
  one.socket->ends[kServer].epoch = 1;
  one.socket->accepted.store(1);
  return true;
}

bool StreamMediator::take_end(uint64_t connection) {
  connections_.at(connection).end_taken = true;
  close_if_over(connection);
  return true;
}

Result<bool> StreamMediator::put_end(const Put& put) {
  auto own = connections_.find(put.connection);
  if (put.ring == kFromClient || own == connections_.end() || !own->second.accepted)
    return make_error(std::errc::invalid_argument, "only who writes the stream " + put.name() + " can end it; DATA may be bytes");
  Socket& socket = *own->second.socket;
  if (auto wrong = check(socket, put)) return *wrong;
  socket.rings[put.ring].finished.store(1);
  ring(put.connection, 0, ~0u);
  close_if_over(put.connection);
  return true;
}

void StreamMediator::close_if_over(uint64_t connection) {
  auto own = connections_.find(connection);
  const Socket& socket = *own->second.socket;
  bool can_put = !socket.rings[1 - kFromClient].finished.load() && !(socket.ends[0].flags.load() & kEnded) &&
                 !(socket.ends[kServer].flags.load() & shared::kReset);
  if (own->second.end_taken && !can_put) close(own);
}

// Who was not accepted is reset, as by Linux.
void StreamMediator::close(Connections::iterator own) {
  auto [socket, placeholder, accepted, end_taken] = std::move(own->second);
  connections_.erase(own);
  bool last = shared::close_end(*socket, kServer, !accepted);
  if (last) return free_run(socket->offset);
  shared::notify(self_, *socket, 0, ~0u, placeholder.get());
}

// --- in ------------------------------------------------------------------------------------------------

Result<Tuple> StreamMediator::in(std::span<const TemplateView> wanted, Deadline deadline, std::stop_token stop) {
  std::stop_callback wake(stop, [this] { shared::wake_watchers(self_.segment); });
  for (;;) {
    uint32_t mark = source_.subscribe(wanted);
    if (auto taken = inp(wanted)) return std::move(*taken);
    if (stop.stop_requested()) return make_error(std::errc::operation_canceled, "told to stop waiting; nothing was taken");
    if (is_late(deadline)) return make_error(std::errc::timed_out, "no such tuple came in time; inp looks without waiting");
    source_.wait(mark, deadline);
  }
}

std::optional<Tuple> StreamMediator::inp(std::span<const TemplateView> wanted) {
  for (;;) {
    collect();
    auto found = look(wanted);
    if (!found) found = look_for_end(wanted);
    if (!found || take(*found)) return found;
  }
}

// The oldest that can be taken, still where it is.
std::optional<Tuple> StreamMediator::look(std::span<const TemplateView> wanted) {
  std::optional<Tuple> found;
  source_.for_each(wanted, [&](TupleView tuple) {
    if (!match_any(wanted, tuple) || !can_take(tuple)) return true;
    found = to_tuple(tuple);
    return false;
  });
  return found;
}

bool StreamMediator::can_take(TupleView tuple) {
  bool request = tuple[0].text == "connect";
  uint64_t connection = *parse_connection(tuple[request ? 3 : 1].text);
  auto own = connections_.find(connection);
  if (request) return own != connections_.end() && !own->second.accepted;
  if (own != connections_.end() && !own->second.accepted) return false;
  return can_visit(self_, {pod_, connection, 1 - *parse_direction(tuple[2].text)});
}

std::optional<Tuple> StreamMediator::look_for_end(std::span<const TemplateView> wanted) {
  for (const auto& [id, one] : connections_) {
    // Whether it has ended is looked at first: nothing comes after that.
    if (!one.accepted || one.end_taken || !is_finished(*one.socket) || readable(one.socket->rings[kFromClient])) continue;
    std::string name = name_of(id);
    auto end = static_cast<int64_t>(one.socket->rings[kFromClient].tail.load());
    FieldView fields[] = {FieldView::string("stream"), FieldView::string(name), FieldView::string(kDirections[kFromClient]),
                          FieldView::of(end), FieldView{}};
    if (match_any(wanted, fields)) return to_tuple(fields);
  }
  return std::nullopt;
}

// returns false if it is not there any more.
bool StreamMediator::take(const Tuple& tuple) {
  std::vector<FieldView> fields = views_of(tuple);
  bool request = fields[0].text == "connect";
  uint64_t connection = *parse_connection(fields[request ? 3 : 1].text);
  if (request) return accept(connection);
  if (fields[4].type == Type::kNil) return take_end(connection);
  return take_bytes(connection, *parse_direction(fields[2].text), static_cast<uint64_t>(fields[3].integer), fields[4].text.size());
}

// One store takes them. That its reader has not moved since we looked says that they are the same bytes; what has come
// behind them is another tuple.
bool StreamMediator::take_bytes(uint64_t connection, uint32_t ring, uint64_t offset, uint64_t n) {
  Debt debt(self_);
  bool taken = false;
  visit_end(self_, {pod_, connection, 1 - ring}, &End::read_lock, [&](Socket& socket) {
    Ring& r = socket.rings[ring];
    if (r.head.load() != offset || (socket.ends[1 - ring].flags.load() & kEnded)) return;
    debt.owe(socket);
    r.head.store(offset + n, std::memory_order_release);
    taken = true;
  });
  if (taken) ring_for_room(connection, ring);
  return taken;
}

// --- out -----------------------------------------------------------------------------------------------

Result<StreamMediator::Put> StreamMediator::parse(TupleView tuple) {
  constexpr Type kTypes[] = {Type::kString, Type::kString, Type::kString, Type::kInt};
  bool fits = tuple.size() == 5 && std::equal(std::begin(kTypes), std::end(kTypes), tuple.begin(),
                                              [](Type type, const FieldView& field) { return field.type == type; });
  if (!fits || tuple[0].text != "stream")
    return make_error(std::errc::invalid_argument,
                      "a mediator puts (\"stream\", CONNECTION, DIRECTION, OFFSET, DATA); see docs/spaces.md");
  auto connection = parse_connection(tuple[1].text);
  if (!connection)
    return make_error(std::errc::invalid_argument,
                      "no connection is named '" + std::string(tuple[1].text) + "'; see godwit ps --connections");
  auto direction = parse_direction(tuple[2].text);
  if (!direction) return make_error(std::errc::invalid_argument, "DIRECTION is \"c>s\" or \"s>c\"; give one of them");
  const FieldView& data = tuple[4];
  bool fits_a_ring = data.type == Type::kBytes && !data.text.empty() && data.text.size() <= shared::kRing;
  if (data.type != Type::kNil && !fits_a_ring)
    return make_error(std::errc::invalid_argument,
                      "DATA is 1 to " + std::to_string(shared::kRing) + " bytes, or nil; give one of them");
  return Put{*connection, *direction, static_cast<uint64_t>(tuple[3].integer), &data};
}

Result<void> StreamMediator::out(TupleView tuple, Deadline deadline, std::stop_token stop) {
  auto what = parse(tuple);
  if (!what) return what.error();
  for (;;) {
    collect();
    auto done = what->data->type == Type::kNil ? put_end(*what) : put_bytes(*what);
    if (!done) return done.error();
    if (*done) return {};
    if (stop.stop_requested()) return make_error(std::errc::operation_canceled, "told to stop waiting; nothing was put");
    if (is_late(deadline))
      return make_error(std::errc::timed_out, "the stream " + what->name() + " had no room in time; nothing was put");
    wait_for_room(*what, deadline);
  }
}

std::optional<Error> StreamMediator::check(const Socket& socket, const Put& put) {
  const Ring& r = socket.rings[put.ring];
  uint32_t flags = socket.ends[put.ring].flags.load();
  bool ended = r.finished.load() || r.refused.load() || (flags & (kEnded | shared::kReset)) ||
               (socket.ends[1 - put.ring].flags.load() & kEnded);
  if (ended)
    return make_error(std::errc::broken_pipe, "the stream " + put.name() + " has ended; nothing can be put there");
  uint64_t end = r.tail.load();
  if (end == put.offset) return std::nullopt;
  return make_error(std::errc::invalid_argument,
                    "the stream " + put.name() + " ends at " + std::to_string(end) + "; that is the OFFSET to give");
}

// returns false if there is no room.
Result<bool> StreamMediator::put_bytes(const Put& put) {
  Debt debt(self_);
  Result<bool> done = false;
  std::string_view data = put.data->text;
  bool here = visit_end(self_, {pod_, put.connection, put.ring}, &End::write_lock, [&](Socket& socket) {
    if (auto wrong = check(socket, put)) return void(done = *wrong);
    if (writable(socket.rings[put.ring]) < data.size()) return;
    debt.owe(socket);
    iovec iov{const_cast<char*>(data.data()), data.size()};
    if (shared::put(socket, put.ring, &iov, 1) > 0) done = true;
    else done = make_error(std::errc::no_space_on_device, "no memory for the stream; make room in /dev/shm");
  });
  if (!here)
    return make_error(std::errc::invalid_argument,
                      "the stream " + put.name() + " is not between programs of this host; see godwit ps --connections");
  if (done && *done) this->ring(put.connection, 1 - put.ring, EPOLLIN);
  return done;
}

// As the writer's further sleepers do (bell.hh). Who is killed here leaves the count too high: that costs wakes of nobody.
void StreamMediator::wait_for_room(const Put& put, Deadline deadline) {
  futex_waitv word;
  {
    Still still(self_);
    Socket* socket = still.find(put.connection);
    if (!socket) return;
    End& writer = socket->ends[put.ring];
    word = futex_waitv{writer.generation.load(), reinterpret_cast<uintptr_t>(&writer.generation), FUTEX_32, 0};
    writer.futex_sleepers.fetch_add(1);
    socket->rings[put.ring].writer_waits.store(1);
    shared::full_fence();
    if (writable(socket->rings[put.ring]) >= put.data->text.size()) word.val = ~word.val;  // no need to sleep
  }
  std::chrono::nanoseconds left = deadline - std::chrono::steady_clock::now(), most(shared::kBackstop);
  left = std::min(left, most);
  if (left.count() > 0) shared::wait_any(&word, 1, static_cast<uint64_t>(left.count()));
  Still still(self_);
  if (Socket* socket = still.find(put.connection)) socket->ends[put.ring].futex_sleepers.fetch_sub(1);
}

// --- rings ---------------------------------------------------------------------------------------------

void StreamMediator::ring(uint64_t connection, uint32_t to, uint32_t events) {
  auto own = connections_.find(connection);
  if (own == connections_.end() || to == kServer) return notify_others(self_, connection, to, events);
  shared::notify(self_, *own->second.socket, to, events, own->second.placeholder.get());
}

// As shared::notify_room.
void StreamMediator::ring_for_room(uint64_t connection, uint32_t ring) {
  {
    Still still(self_);
    Socket* socket = still.find(connection);
    if (!socket) return;
    Ring& r = socket->rings[ring];
    shared::full_fence();
    if (!r.writer_waits.load() || writable(r) < shared::kWritable || !r.writer_waits.exchange(0)) return;
  }
  this->ring(connection, ring, EPOLLOUT);
}

// --- what killed mediators leave ---------------------------------------------------------------------------

void remove_dead_mediators(shared::Thread& self) {
  for (uint32_t m = 1; m < shared::kMembers; ++m) {
    const shared::Member& member = self.segment.header().members[m];
    if (member.kind != shared::MemberKind::kPod || !is_mediator(member.pod)) continue;
    shared::Area& area = *self.segment.area_of(m);
    bool lives = false;
    for (uint32_t i = 1; i < area.slot_count.load(); ++i)
      lives |= area.slots[i].state.load() == shared::SlotState::kLive && !area.slots[i].dead();
    if (!lives) shared::remove_pod(self, member.pod);
  }
}

void keep_mediators_off(shared::Thread& self, uint64_t pod, bool off) {
  {
    Still still(self);
    if (uint32_t member = shared::find_pod(self.segment, pod)) self.segment.header().members[member].moving.store(off);
  }
  if (off) shared::reap(self);  // a killed one's slot does not go along
}

void ring_for_dead_mediators(shared::Thread& self) {
  std::vector<shared::Slot*> owing;
  shared::lock(self, shared::kReaper);
  shared::for_each_dead(self.segment, [&](uint32_t, uint32_t, shared::Slot& slot) {
    if (slot.owes) owing.push_back(&slot);
  });
  shared::unlock(self, shared::kReaper);
  for (shared::Slot* slot : owing) {
    uint64_t connection = self.segment.at<Socket>(slot->owes)->id;  // if it has become another's: one ring for nothing
    for (uint32_t side : {0u, 1u}) notify_others(self, connection, side, ~0u);
    slot->owes = 0;  // from here on it can be reaped
  }
}

}  // namespace godwit
