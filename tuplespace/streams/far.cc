#include "tuplespace/streams/far.hh"

#include <string.h>

#include <algorithm>

#include "tuplespace/shared/allocator.hh"

namespace godwit {

using shared::kClosed;
using shared::kGone;
using shared::kReset;
using shared::kRing;
using shared::Ring;
using shared::Socket;

namespace {

// The reader's progress is reported when it is worth a frame, so a ping-pong needs none.
constexpr uint64_t kReportAfter = kRing / 4;

// Bytes that came from another host: as the writer's put(), at a given offset. Receiving again is harmless.
bool receive(Socket& socket, uint32_t ring, uint64_t offset, std::string_view bytes) {
  Ring& r = socket.rings[ring];
  uint64_t tail = r.tail.load();
  if (offset > tail || offset + bytes.size() <= tail) return offset <= tail;
  bytes.remove_prefix(tail - offset);
  if (bytes.size() > writable(r)) return false;
  iovec iov{const_cast<char*>(bytes.data()), bytes.size()};
  return put(socket, ring, &iov, 1) == static_cast<ssize_t>(bytes.size());
}

}  // namespace

// One far connection. `side` is the absent end, which the node uses here; ring `side` is written here with what
// comes in, ring `1 - side` is read here and sent.
class FarConnections::Far final : public EndUser, public FrameSource {
 public:
  Far(FarConnections& all, Socket& socket, uint32_t side, bool open)
      : all_(all), socket_(socket), connection_(socket.id), side_(side), open_(open) {}
  ~Far() override {
    leave_carrier();
    all_.streams_.detach(socket_, side_);
    all_.context_.forget(socket_, side_);
  }

  Socket& socket() { return socket_; }
  uint32_t side() const { return side_; }
  const std::string& host() const { return host_; }

  /// Finds out where the absent end is, and starts anew with that host. returns false if it is gone for good.
  bool start() {
    auto route = all_.context_.route(absent().pod);
    if (!route) return false;
    leave_carrier();
    // An earlier node died before it had given up an end whose pod has come to this host: nobody to talk to, and
    // the move's settling will remove us.
    host_ = route->host == all_.context_.self() ? "" : route->host;
    if (host_.empty()) return true;
    absent().epoch = std::max(absent().epoch, route->epoch);
    if (auto mine = all_.context_.route(local().pod)) local().epoch = std::max(local().epoch, mine->epoch);
    introduce();
    return true;
  }

  /// The carrier is up: says where both rings stand.
  void introduce() {
    known_ = finish_sent_ = closed_sent_ = reset_sent_ = false;
    if (open_) {
      send_open();
    } else {
      send(FrameType::kAsk, out_ring(), 0, absent().pod);
    }
    send_position();
  }

  /// The absent end's pod has ended: for our program the connection is reset.
  void lost() { on_forgotten(true); }

  // --- EndUser ---
  void look() override {
    report_consumed();
    if (!known_) return;
    if (out().tail.load() != sent_) carrier().activate(*this);
    end_of_stream();
  }

  void gone() override {
    shared::note_gone(socket_, side_);
    look();
  }

  // --- FrameSource ---
  bool next(FrameHeader* header, std::string_view parts[2]) override {
    uint64_t tail = out().tail.load(std::memory_order_acquire);
    if (!known_ || sent_ == tail) {
      end_of_stream();
      return false;
    }
    uint64_t n = std::min<uint64_t>(tail - sent_, kMaxPayload);
    shared::RingSpan span = ring_span(socket_, out_ring(), sent_, n);
    for (int i = 0; i < 2; ++i) parts[i] = {static_cast<const char*>(span.parts[i].iov_base), span.parts[i].iov_len};
    *header = make(FrameType::kData, out_ring(), sent_, 0);
    set_sent(sent_ + n);
    return true;
  }

  void on_frame(const std::string& from, const FrameHeader& header, std::string_view payload) {
    if (header.from_epoch > absent().epoch) {
      // The other end's pod has moved, and its new host is quicker than the directory's news.
      absent().epoch = header.from_epoch;
      if (host_ != from) {
        leave_carrier();
        host_ = from;
        introduce();
      }
    }
    switch (header.type) {
      case FrameType::kAsk: return send_position();
      case FrameType::kPosition: return on_position(header);
      case FrameType::kData: return on_data(header, payload);
      case FrameType::kConsumed:
        if (header.ring == out_ring()) on_consumed(header.offset);
        return;
      case FrameType::kFinish: return on_finish(header);
      case FrameType::kReset: return on_reset();
      case FrameType::kClosed: return on_closed();
      case FrameType::kFreed:
      case FrameType::kUnknown: return on_forgotten(header.type == FrameType::kUnknown);
      case FrameType::kOpen: return send_position();
    }
  }

 private:
  Ring& out() { return socket_.rings[1 - side_]; }
  Ring& in() { return socket_.rings[side_]; }
  uint8_t out_ring() const { return static_cast<uint8_t>(1 - side_); }
  uint8_t in_ring() const { return static_cast<uint8_t>(side_); }
  shared::End& local() { return socket_.ends[1 - side_]; }
  shared::End& absent() { return socket_.ends[side_]; }
  Carrier& carrier() { return all_.context_.carrier(host_); }
  void leave_carrier() {
    if (!host_.empty()) carrier().forget(*this);
  }
  // Also for those who look at the segment: from here on the bytes are tuples of this host.
  void set_sent(uint64_t offset) {
    sent_ = offset;
    out().sent.store(offset, std::memory_order_release);
  }
  bool local_closed() { return local().flags.load() & (kClosed | kGone); }
  void ring(uint32_t events) { all_.streams_.ring(socket_, side_, events); }

  FrameHeader make(FrameType type, uint8_t ring, uint64_t offset, uint64_t value) {
    FrameHeader header{};
    header.type = type;
    header.ring = ring;
    header.connection = connection_;
    header.offset = offset;
    header.value = value;
    header.from_epoch = local().epoch;
    header.to_epoch = absent().epoch;
    return header;
  }
  void send(FrameType type, uint8_t ring, uint64_t offset, uint64_t value = 0) {
    if (!host_.empty()) carrier().send(make(type, ring, offset, value));
  }
  void send_position() { send(FrameType::kPosition, in_ring(), in().tail.load(), in().head.load()); }
  void send_open() {
    OpenPayload payload{};
    payload.listener = socket_.listener;
    payload.family = socket_.family;
    for (int i = 0; i < 2; ++i) {
      payload.pods[i] = socket_.ends[i].pod;
      payload.addresses[i] = socket_.ends[i].address;
    }
    carrier().send(make(FrameType::kOpen, 0, 0, 0), {reinterpret_cast<const char*>(&payload), sizeof payload});
  }

  // What our reader has consumed lets the other host's writer go on.
  void report_consumed() {
    uint64_t head = in().head.load(std::memory_order_acquire);
    if (head - in().consumed >= kReportAfter) {
      in().consumed = head;
      send(FrameType::kConsumed, in_ring(), head);
    }
    if (in().tail.load() - in().consumed < kReportAfter) return;
    in().writer_waits.store(1);  // asks the reader to ring as it goes on
    shared::full_fence();
    if (in().head.load() - in().consumed >= kReportAfter) report_consumed();
  }

  void end_of_stream() {
    if (!reset_sent_ && (absent().flags.load() & kReset)) {
      reset_sent_ = true;
      send(FrameType::kReset, out_ring(), sent_);
    }
    bool drained = sent_ == out().tail.load();
    if (!finish_sent_ && drained && out().finished.load()) {
      finish_sent_ = true;
      send(FrameType::kFinish, out_ring(), sent_);
    }
    if (!closed_sent_ && drained && local_closed()) {
      closed_sent_ = true;
      send(FrameType::kClosed, out_ring(), sent_);
    }
  }

  void on_position(const FrameHeader& header) {
    if (header.ring != out_ring()) return;
    open_ = false;
    on_consumed(header.value);
    if (known_ && !header.restart) return;
    finish_sent_ = closed_sent_ = reset_sent_ = false;
    uint64_t head = out().head.load(), tail = out().tail.load();
    if (header.offset < head || header.offset > tail) return on_reset();  // not our stream: never resend wrongly
    known_ = true;
    set_sent(header.offset);
    look();
  }

  void on_data(const FrameHeader& header, std::string_view payload) {
    if (header.ring != in_ring()) return;
    if (!receive(socket_, in_ring(), header.offset, payload)) {
      // A gap, or no memory. What is missing is still at the sender's: it starts again from here.
      FrameHeader again = make(FrameType::kPosition, in_ring(), in().tail.load(), in().head.load());
      again.restart = 1;
      return carrier().send(again);
    }
    ring(EPOLLIN);
    report_consumed();
  }

  void on_consumed(uint64_t offset) {
    uint64_t head = out().head.load();
    if (offset <= head || offset > out().tail.load()) return;
    out().head.store(offset, std::memory_order_release);
    if (known_ && sent_ < offset) set_sent(offset);
    shared::notify_room(all_.streams_.self(), socket_, side_, all_.streams_.placeholder(socket_, side_));
  }

  void on_finish(const FrameHeader& header) {
    if (header.ring != in_ring() || header.offset != in().tail.load()) return;
    in().finished.store(1);
    ring(~0u);
  }

  void on_reset() {
    local().flags.fetch_or(kReset);
    in().finished.store(1);
    ring(~0u);
  }

  void on_closed() {
    send(FrameType::kFreed, out_ring(), 0);
    end_here();
  }

  void on_forgotten(bool unexpectedly) {
    if (unexpectedly && !local_closed()) on_reset();
    end_here();
  }

  // The absent end is closed. Our program keeps the piece until it closes its own; else we free it.
  void end_here() {
    Streams& streams = all_.streams_;
    Socket& socket = socket_;
    in().finished.store(1);
    bool last = absent().flags.fetch_or(kClosed) == 0 && local_closed();
    ring(~0u);
    all_.erase(connection_);  // destroys this
    if (last) streams.free(socket);
  }

  FarConnections& all_;
  Socket& socket_;
  uint64_t connection_;
  uint32_t side_;
  std::string host_;
  bool open_;              // the other host has not heard of the connection
  bool known_ = false;     // the other host has told how far it is
  uint64_t sent_ = 0;      // of the out ring
  bool finish_sent_ = false, closed_sent_ = false, reset_sent_ = false;
};

FarConnections::FarConnections(Streams& streams, FarContext& context) : streams_(streams), context_(context) {}
FarConnections::~FarConnections() = default;
void FarConnections::erase(uint64_t connection) { far_.erase(connection); }

bool FarConnections::uses(const std::string& host) const {
  return std::any_of(far_.begin(), far_.end(), [&](const auto& f) { return f.second->host() == host; });
}

Result<void> FarConnections::add(Socket& socket, uint32_t side, UniqueFd placeholder, bool open) {
  context_.keep(socket, side, placeholder.get());
  auto far = std::make_unique<Far>(*this, socket, side, open);
  Far& made = *far;
  if (auto attached = streams_.attach(socket, side, std::move(placeholder), made); !attached) return attached;
  far_[socket.id] = std::move(far);
  if (!made.start()) made.lost();
  return {};
}

FarConnections::Found FarConnections::find(uint64_t connection) const {
  auto it = far_.find(connection);
  return it == far_.end() ? Found{nullptr, 0} : Found{&it->second->socket(), it->second->side()};
}

UniqueFd FarConnections::remove(Socket& socket) {
  auto it = far_.find(socket.id);
  if (it == far_.end()) return UniqueFd();
  UniqueFd placeholder = streams_.detach(socket, it->second->side());
  far_.erase(it);
  return placeholder;
}

void FarConnections::on_frame(const std::string& from, const FrameHeader& header, std::string_view payload) {
  auto it = far_.find(header.connection);
  if (it == far_.end()) {
    if (header.type == FrameType::kOpen) return open(from, header, payload);
    if (header.type == FrameType::kClosed) return refuse(from, header, FrameType::kFreed);
    // Only of a pod that is here do we know that a connection is not: one that is elsewhere answers there. And it
    // may be that the asker's pod has just left this host, and we are about to become the user of its end.
    if (header.type == FrameType::kAsk) {
      auto route = context_.route(header.value);
      bool ours = !route || route->host == context_.self();
      if (ours && !is_here(header.connection)) refuse(from, header, FrameType::kUnknown);
    }
    return;
  }
  Far& far = *it->second;
  if (header.from_epoch < far.socket().ends[far.side()].epoch) return;
  far.on_frame(from, header, payload);
}

bool FarConnections::is_here(uint64_t connection) const {
  bool found = false;
  shared::for_each_run(streams_.segment(), [&](shared::Offset offset, const shared::Chunk& chunk) {
    if (chunk.kind != shared::RunKind::kSocket) return;
    const Socket& socket = *streams_.segment().at<Socket>(offset);
    found |= socket.id == connection && socket.state.load() == shared::SocketState::kConnected;
  });
  return found;
}

void FarConnections::on_carrier_up(const std::string& host) {
  for (auto& [id, far] : far_)
    if (far->host() == host) far->introduce();
}

void FarConnections::on_route(uint64_t pod) {
  std::vector<uint64_t> concerned;
  for (auto& [id, far] : far_)
    if (far->socket().ends[far->side()].pod == pod) concerned.push_back(id);
  for (uint64_t id : concerned) {
    auto it = far_.find(id);
    if (it != far_.end() && !it->second->start()) it->second->lost();
  }
}

void FarConnections::refuse(const std::string& host, const FrameHeader& about, FrameType answer) {
  FrameHeader header{};
  header.type = answer;
  header.connection = about.connection;
  header.from_epoch = about.to_epoch;
  header.to_epoch = about.from_epoch;
  context_.carrier(host).send(header);
}

// A program elsewhere connects to a listener that is here: makes our piece, and plays the client's end.
void FarConnections::open(const std::string& from, const FrameHeader& header, std::string_view payload) {
  OpenPayload what;
  if (payload.size() != sizeof what) return;
  memcpy(&what, payload.data(), sizeof what);
  auto route = context_.route(what.pods[1]);
  if (route && route->host != context_.self()) return;  // it has moved; the opener will hear of it and ask there
  shared::Offset offset;
  if (!route || shared::allocate_socket(streams_.self(), what.family, what.pods[1], &offset) != 0)
    return refuse(from, header, FrameType::kUnknown);
  Socket& socket = streams_.at(offset);
  socket.id = header.connection;
  socket.listener = what.listener;
  for (int i = 0; i < 2; ++i) {
    socket.ends[i].pod = what.pods[i];
    socket.ends[i].address = what.addresses[i];
  }
  socket.ends[0].epoch = header.from_epoch;
  socket.ends[1].epoch = route->epoch;
  socket.state.store(shared::SocketState::kConnected);
  shared::publish(streams_.self());
  shared::notify_connection(streams_.self());
  uint64_t connection = socket.id;
  knock(streams_, offset, [this, offset, connection](Result<UniqueFd> placeholder) {
    Socket& socket = streams_.at(offset);
    if (placeholder) return static_cast<void>(add(socket, 0, std::move(*placeholder), false));
    FrameHeader about{};
    about.connection = connection;
    about.to_epoch = socket.ends[1].epoch;
    about.from_epoch = socket.ends[0].epoch;
    if (auto route = context_.route(socket.ends[0].pod)) refuse(route->host, about, FrameType::kUnknown);
    streams_.free(socket);
  });
}

}  // namespace godwit
