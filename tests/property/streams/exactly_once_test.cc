// Any split of writes and reads, any breaks of the carriers, and any placement of moves between them gives the same bytes
// once and in order: two hosts in one process, with the real segments, far connections, carriers and pieces. Only the
// program is played: a client that stays on host 0, and a server whose pod moves.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>
#include <sys/socket.h>

#include <deque>

#include "migrate/pieces.hh"
#include "tests/support/segment.hh"
#include "tuplespace/shared/allocator.hh"
#include "tuplespace/streams/far.hh"

namespace godwit {
namespace {

using migrate::Captured;
using migrate::Places;
using StreamSocket = shared::Socket;

constexpr uint64_t kClientPod = 1, kServerPod = 2;

char pattern(uint32_t stream, uint64_t position) {
  return static_cast<char>((position * 0x9e3779b97f4a7c15 >> 56) + stream);
}

class World;

// A host: its segment, its node's streams, its end of the carriers.
class SimulatedHost final : public FarContext {
 public:
  SimulatedHost(World& world, int number);
  std::string self() override { return name_; }
  std::optional<Route> route(uint64_t pod) override;
  Carrier& carrier(const std::string&) override { return *out; }
  void keep(const StreamSocket&, uint32_t, int) override {}
  void forget(const StreamSocket&, uint32_t) override {}

  World& world;
  testing::TestSegment segment{256 << 20};
  Loop loop;
  std::unique_ptr<Streams> streams;
  std::unique_ptr<Carrier> out;
  std::unique_ptr<CarrierReader> in;
  std::unique_ptr<FarConnections> far;  // goes first: it lets go of the carrier
  bool down = true;

 private:
  std::string name_;
};

// One end of the connection as its program has it.
struct ProgramEnd {
  int host = 0;
  StreamSocket* socket = nullptr;
  UniqueFd placeholder;
  uint64_t written = 0, read = 0;
};

class World {
 public:
  World() : hosts{{*this, 0}, {*this, 1}} {
    connect_carriers();
    make_connection();
  }

  void write(uint32_t side, uint64_t n) {
    ProgramEnd& end = ends[side];
    std::string bytes(n, 0);
    for (uint64_t i = 0; i < n; ++i) bytes[i] = pattern(side, end.written + i);
    iovec iov{bytes.data(), n};
    ssize_t put = shared::put(*end.socket, side, &iov, 1);
    RC_ASSERT(put >= 0);
    if (put > 0) shared::notify(self_of(end), *end.socket, 1 - side, EPOLLIN, end.placeholder.get());
    end.written += static_cast<uint64_t>(put);
  }

  uint64_t read(uint32_t side, uint64_t n) {
    ProgramEnd& end = ends[side];
    std::string bytes(n, 0);
    iovec iov{bytes.data(), n};
    ssize_t taken = shared::take(*end.socket, side, &iov, 1, false);
    RC_ASSERT(taken >= 0);
    for (ssize_t i = 0; i < taken; ++i)
      RC_ASSERT(bytes[static_cast<size_t>(i)] == pattern(1 - side, end.read + static_cast<uint64_t>(i)));
    if (taken > 0) shared::notify_room(self_of(end), *end.socket, side, end.placeholder.get());
    end.read += static_cast<uint64_t>(taken);
    RC_ASSERT(end.read <= ends[1 - side].written);
    return static_cast<uint64_t>(taken);
  }

  void break_carrier(int from) { hosts[1 - from].in.reset(); }

  void pump(int rounds) {
    for (int i = 0; i < rounds; ++i)
      for (SimulatedHost& host : hosts) {
        host.loop.run_once(std::chrono::milliseconds(0));
        if (host.down) connect_carriers();
      }
  }

  // As outgoing.cc and incoming.cc do it, without the program's memory.
  void move() {
    ProgramEnd& server = ends[1];
    SimulatedHost &from = hosts[server.host], &to = hosts[1 - server.host];
    StreamSocket& old = *server.socket;
    ControlPiece piece{1, shared::kSocketLength, old.offset, PieceKind::kSocket, 0};
    migrate::Unread unread;
    std::string bytes = migrate::capture(from.segment.segment(), kServerPod, {piece}, &unread);
    auto captured = Captured::parse(bytes);
    RC_ASSERT(captured.has_value());
    Places places;
    std::map<uint64_t, bool> existing;
    UniqueFd ours, theirs;
    auto known = to.far->find(old.id);
    if (known.socket) {
      places[old.offset] = known.socket->offset;
      existing[old.offset] = true;
      to.streams->keep_bells(*known.socket, 1);
      theirs = UniqueFd(dup(to.streams->placeholder(*known.socket, 1)));
    } else {
      shared::Offset offset;
      RC_ASSERT(shared::allocate_socket(to.streams->self(), AF_INET, kServerPod, &offset) == 0);
      shared::publish(to.streams->self());
      places[old.offset] = offset;
      make_pair(ours, theirs);
    }
    StreamSocket& fresh = to.streams->at(places[old.offset]);
    RC_ASSERT(captured->put_bytes(to.segment.segment(), places, existing).has_value());
    // The commit.
    epoch++;
    server_host = 1 - server.host;
    if (known.socket) to.far->remove(*known.socket);
    RC_ASSERT(captured->put_ends(to.segment.segment(), kServerPod, epoch, places).has_value());
    if (server.host == ends[0].host) {
      RC_ASSERT(from.far->add(old, 1, std::move(server.placeholder), false).has_value());
    } else {
      from.far->remove(old);
      from.streams->free(old);
    }
    server.host = server_host;
    server.socket = &fresh;
    server.placeholder = std::move(theirs);
    if (ours.valid()) RC_ASSERT(to.far->add(fresh, 0, std::move(ours), false).has_value());
    for (SimulatedHost& host : hosts) host.far->on_route(kServerPod);
  }

  void connect_carriers() {
    for (int i = 0; i < 2; ++i) {
      if (!hosts[i].down) continue;
      UniqueFd a, b;
      make_pair(a, b);
      SimulatedHost &sender = hosts[i], &receiver = hosts[1 - i];
      receiver.in = std::make_unique<CarrierReader>(
          receiver.loop, std::move(b),
          [&sender, &receiver](const FrameHeader& header, std::string_view payload) {
            receiver.far->on_frame(sender.self(), header, payload);
          },
          [&receiver] { receiver.in.reset(); });
      sender.down = false;
      sender.out->connected(std::move(a));
    }
  }

  uint32_t epoch = 1;
  int server_host = 0;
  SimulatedHost hosts[2];
  ProgramEnd ends[2];

 private:
  static void make_pair(UniqueFd& a, UniqueFd& b) {
    int pair[2];
    RC_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    a = UniqueFd(pair[0]);
    b = UniqueFd(pair[1]);
  }

  shared::Thread& self_of(const ProgramEnd& end) { return hosts[end.host].streams->self(); }

  void make_connection() {
    SimulatedHost& host = hosts[0];
    shared::Offset offset;
    RC_ASSERT(shared::allocate_socket(host.streams->self(), AF_INET, kClientPod, &offset) == 0);
    shared::publish(host.streams->self());
    StreamSocket& socket = host.streams->at(offset);
    socket.id = shared::next_connection(host.segment.segment());
    socket.ends[0].pod = kClientPod;
    socket.ends[1].pod = kServerPod;
    socket.ends[0].epoch = socket.ends[1].epoch = 1;
    socket.accepted = 1;
    socket.state = shared::SocketState::kConnected;
    for (ProgramEnd& end : ends) end.socket = &socket;
    make_pair(ends[0].placeholder, ends[1].placeholder);
  }
};

SimulatedHost::SimulatedHost(World& world, int number) : world(world), name_(number ? "b" : "a") {
  segment.segment().header().host_number = static_cast<uint32_t>(number + 1);
  streams = std::move(*Streams::create(loop, segment.segment()));
  far = std::make_unique<FarConnections>(*streams, *this);
  out = std::make_unique<Carrier>(loop, [this] { far->on_carrier_up(this->world.hosts[name_ == "a"].self()); },
                                  [this] { down = true; });
}

std::optional<Route> SimulatedHost::route(uint64_t pod) {
  if (pod == kClientPod) return Route{"a", 1};
  return Route{world.server_host ? "b" : "a", world.epoch};
}

enum class Act { kWrite, kRead, kPump, kBreak, kMove };

rc::Gen<std::pair<Act, uint32_t>> acts() {
  return rc::gen::pair(rc::gen::weightedElement<Act>({{8, Act::kWrite}, {8, Act::kRead}, {6, Act::kPump}, {1, Act::kBreak},
                                                      {2, Act::kMove}}),
                       rc::gen::inRange<uint32_t>(1, 60000));
}

RC_GTEST_PROP(Streams, BytesComeOnceAndInOrderWhateverMoves, ()) {
  World world;
  for (const auto& [act, n] : *rc::gen::container<std::vector<std::pair<Act, uint32_t>>>(acts())) {
    switch (act) {
      case Act::kWrite: world.write(n & 1, n); break;
      case Act::kRead: world.read(n & 1, n); break;
      case Act::kPump: world.pump(static_cast<int>(n % 4) + 1); break;
      case Act::kBreak: world.break_carrier(static_cast<int>(n & 1)); break;
      case Act::kMove: world.move(); break;
    }
  }
  // What was written arrives, all of it.
  for (int idle = 0; idle < 2000 && (world.ends[0].read < world.ends[1].written ||
                                     world.ends[1].read < world.ends[0].written); ++idle) {
    world.pump(1);
    for (uint32_t side : {0u, 1u})
      if (world.read(side, 200000)) idle = 0;
  }
  RC_ASSERT(world.ends[1].read == world.ends[0].written);
  RC_ASSERT(world.ends[0].read == world.ends[1].written);
}

}  // namespace
}  // namespace godwit
