// Far connections: those whose other end's pod runs on another host. The node uses that end here, and the other
// host's node uses our end there; frames between the two keep both rings of both pieces in step.
//
// The one rule: the writer's host keeps every byte until the reader has consumed it, so tail - head <= capacity of
// the writer's ring is the flow control end to end, and the reader's host needs to keep nothing that could be lost.
// After a break, or a move of either end, the reader's host says how far it has received and consumed (kPosition,
// asked for by kAsk); from there the writer's host sends again. Offsets make repeated bytes harmless.
//
// Who may speak for an end: the host whose directory epoch of that end's pod is the highest seen. Frames of an
// older epoch are dropped.
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "tuplespace/streams/carrier.hh"
#include "tuplespace/streams/streams.hh"

namespace godwit {

struct Route {
  std::string host;
  uint32_t epoch = 0;
};

/// What Far needs of its surroundings; the node implements it with the directory and the carrier service.
class FarContext {
 public:
  virtual ~FarContext() = default;
  virtual std::string self() = 0;
  /// Where a pod runs, also bridges. nullopt: it has ended.
  virtual std::optional<Route> route(uint64_t pod) = 0;
  /// The carrier to a host, made on demand.
  virtual Carrier& carrier(const std::string& host) = 0;
  /// The node uses an end now, and does no more: so that a restarted node can take it up.
  virtual void keep(const shared::Socket& socket, uint32_t side, int placeholder) = 0;
  virtual void forget(const shared::Socket& socket, uint32_t side) = 0;
};

/// Payload of kOpen.
struct OpenPayload {
  uint64_t listener;
  uint64_t pods[2];    // of the client's and the server's end
  uint32_t family;
  uint32_t unused;
  shared::Address addresses[2];
};

class FarConnections {
 public:
  FarConnections(Streams& streams, FarContext& context);
  ~FarConnections();

  /// The node uses end `side` of the connection from now on, for the host where its pod runs.
  /// open: the other host does not know of the connection yet.
  Result<void> add(shared::Socket& socket, uint32_t side, UniqueFd placeholder, bool open);
  /// Gives the end up because its pod comes to this host; the placeholder goes back to the pod.
  UniqueFd remove(shared::Socket& socket);
  bool knows(uint64_t connection) const { return far_.contains(connection); }
  struct Found {
    shared::Socket* socket;  // null: not known
    uint32_t side;           // the absent end
  };
  Found find(uint64_t connection) const;
  /// Whether any connection's other end is on `host`.
  bool uses(const std::string& host) const;

  /// A frame from another host's carrier.
  void on_frame(const std::string& from, const FrameHeader& header, std::string_view payload);
  /// The carrier to `host` is up (again).
  void on_carrier_up(const std::string& host);
  /// The directory says that a pod is elsewhere now, or has ended.
  void on_route(uint64_t pod);

 private:
  class Far;
  void open(const std::string& from, const FrameHeader& header, std::string_view payload);
  void refuse(const std::string& host, const FrameHeader& about, FrameType answer);
  bool is_here(uint64_t connection) const;
  void erase(uint64_t connection);

  Streams& streams_;
  FarContext& context_;
  std::unordered_map<uint64_t, std::unique_ptr<Far>> far_;  // by connection
};

}  // namespace godwit
