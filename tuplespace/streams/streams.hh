// The node as a user of ends: it keeps their placeholders, and watches them with a set of its own, just as a
// program watches its sockets with epoll.
//
// What must stay true: a user is told to look() after anything may have changed at its end, and is never called
// again after detach(). All in the loop's thread.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "tuplespace/node/loop.hh"
#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/shared/bell.hh"

namespace godwit {

/// Pod ids with this bit are bridges: the low 24 bits are the host's number.
inline constexpr uint64_t kBridgePod = 1ull << 63;
/// The bridge of the segment's host.
inline uint64_t own_bridge(shared::Segment segment) { return kBridgePod | segment.header().host_number; }
/// Runs that belong to the node itself.
inline constexpr uint64_t kNodePod = ~0ull;

class EndUser {
 public:
  virtual ~EndUser() = default;
  virtual void look() = 0;  // bytes, room, FIN or RST may be there
  virtual void gone() = 0;  // the other end's last descriptor is closed
};

class Streams {
 public:
  /// Takes the host's segment over from an earlier node: its sets are freed and watch nothing any more.
  static Result<std::unique_ptr<Streams>> create(Loop& loop, shared::Segment segment);
  ~Streams();

  /// Whether the pod (or bridge) is a member of this segment: it runs here, or is about to leave or to come.
  bool lives_here(uint64_t pod) const;

  /// The node uses end `side` of the socket from now on; `user` is told to look soon. The placeholder is ours.
  Result<void> attach(shared::Socket& socket, uint32_t side, UniqueFd placeholder, EndUser& user);
  /// Gives the end up, and its placeholder to the caller.
  UniqueFd detach(shared::Socket& socket, uint32_t side);
  int placeholder(shared::Socket& socket, uint32_t side) const;
  /// From now on every ring of the other end leaves a byte in the placeholder, so that whoever sleeps on a copy of it
  /// is woken: the end's pod is about to come to this host.
  void keep_bells(shared::Socket& socket, uint32_t side);

  /// Tells the other end that `events` may be so now.
  void ring(shared::Socket& socket, uint32_t side, uint32_t events);
  /// Frees a piece that no end uses any more.
  void free(shared::Socket& socket);
  void free_run(shared::Offset run);

  shared::Segment segment() const { return segment_; }
  shared::Thread& self() { return self_; }
  shared::Socket& at(shared::Offset offset) { return *segment_.at<shared::Socket>(offset); }
  Loop& loop() { return loop_; }

 private:
  struct Use {
    shared::Socket* socket = nullptr;
    uint32_t side = 0;
    UniqueFd placeholder;
    EndUser* user = nullptr;
    bool keep_bells = false;
  };
  Streams(Loop& loop, shared::Segment segment) : loop_(loop), segment_(segment) {}
  Result<void> start();
  bool serve_marked();
  bool arm();
  void on_bell(uint32_t index, uint32_t events);
  static uint64_t key(const shared::Socket& socket, uint32_t side) { return socket.offset | side; }

  Loop& loop_;
  shared::Segment segment_;
  shared::Thread self_;
  shared::Set* set_ = nullptr;
  uint64_t prepare_id_ = 0;
  std::vector<Use> uses_;           // by index in the set
  std::vector<uint32_t> free_;      // indexes
  std::unordered_map<uint64_t, uint32_t> index_of_;
};

/// Connects end 0 of the connection at `offset` to the listener that it names, as a program's connect would; a full
/// backlog is tried again. done: end 0's placeholder, or the error; soon or at once.
void knock(Streams& streams, shared::Offset offset, std::function<void(Result<UniqueFd>)> done);

/// A listening AF_UNIX socket under an abstract name, and the peer's name of what it accepts.
Result<UniqueFd> listen_at(const shared::Name& name);
struct Accepted {
  UniqueFd placeholder;
  uint64_t connection = 0;
  shared::Offset offset = 0;
};
/// nullopt: nothing is waiting. Knocks that are not from this segment are dropped.
std::optional<Accepted> accept_at(int listener, shared::Segment segment);

}  // namespace godwit
