// The node's part in the streams of its host: carriers to the other nodes, far connections, and proxies of
// listeners whose pods run elsewhere.
//
// What must stay true: the segment's table of listeners follows the directory; a listener of another host has a
// proxy here, an AF_UNIX listener under the same abstract name, so that a program's connect needs nobody's leave.
// When a pod moves, the descriptor goes over: what was its listener here becomes our proxy, and the other way round.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tuplespace/node/node.hh"
#include "tuplespace/streams/far.hh"
#include "tuplespace/streams/host_segment.hh"
#include "tuplespace/streams/keeping.hh"

namespace godwit {

class StreamService final : public FarContext {
 public:
  explicit StreamService(Node& node);
  void stop();
  std::string farewell() const;

  // From the node's start on.
  Streams& streams() { return *streams_; }
  FarConnections& far() { return *far_; }
  shared::Segment segment() const { return segment_; }

  /// Hands the proxy of a listener over to its pod, which arrives here; its piece is `socket`.
  UniqueFd release_listener(uint64_t listener, shared::Socket& socket);
  /// The pod of a local listener leaves: its descriptor is our proxy from now on.
  void adopt_listener(uint64_t listener, UniqueFd placeholder);
  /// The table of local listeners may differ from the directory: a program has said so, or a pod has gone.
  void sync_listeners();
  /// A pod of this host has ended: its ends, its runs and its listeners go.
  void remove_pod(uint64_t pod);

  /// A duplicate of a listener's proxy here (made if there is none), for a pod that may come to this host.
  UniqueFd copy_listener(uint64_t listener);
  /// What an earlier node left with the keeper, by kind_of(name). Each is asked for once, at start.
  using TakeUp = std::function<void(Keeper::Held held)>;
  void on_kept(std::string kind, TakeUp take_up) { take_up_[std::move(kind)] = std::move(take_up); }
  Keeper& keeper() { return keeper_; }
  /// An earlier node's placeholder for a connection of a pod that had not been committed to this host.
  UniqueFd take_kept(uint64_t connection);

  // FarContext
  std::string self() override { return node_.host_name(); }
  std::optional<Route> route(uint64_t pod) override;
  Carrier& carrier(const std::string& host) override;
  void keep(const shared::Socket& socket, uint32_t side, int placeholder) override;
  void forget(const shared::Socket& socket, uint32_t side) override;

 private:
  struct Peer;
  struct Proxy;
  struct Arriving;
  Result<void> start();
  void on_change(const Change& change);
  void on_listener(const ListenerEntry& listener, bool added);
  void proxy(const ListenerEntry& listener, UniqueFd socket);
  void on_knock(uint64_t listener);
  Result<void> listen_for_programs();
  Result<void> listen_for_carriers();
  void offer_carrier(const msgpack::object& params, Reply reply);
  void on_carrier_connection();
  void on_greeting(int fd);
  void dial(const std::string& host);
  void on_offer(const std::string& host, Answer answer);
  void redial(const std::string& host);
  bool is_here(uint64_t pod) const;
  void look_after_mediators();
  void take_up_kept(std::vector<Keeper::Held> all);
  UniqueFd make_proxy(uint64_t listener);

  Node& node_;
  bool stopped_ = false;
  Keeper keeper_;
  std::map<std::string, TakeUp> take_up_;
  std::map<uint64_t, UniqueFd> uncommitted_;  // by connection
  shared::Segment segment_;
  std::unique_ptr<Streams> streams_;
  std::unique_ptr<FarConnections> far_;
  UniqueFd program_bell_;    // datagrams of programs: the table of listeners has changed
  UniqueFd carrier_listener_;
  std::string carrier_address_;
  std::map<std::string, std::string> offers_;  // token -> host that may use it once
  std::map<int, Arriving> arriving_;           // carriers that have not shown their token
  std::map<std::string, std::unique_ptr<Peer>> peers_;
  std::map<uint64_t, Proxy> proxies_;          // by listener
  std::map<uint64_t, UniqueFd> kept_proxies_;  // an earlier node's, until they are taken up
  std::map<uint64_t, bool> announced_;         // local listeners that are, or are about to be, in the directory
};

/// The service of a node; one each.
StreamService& stream_service(Node& node);
void register_streams(Node& node);

}  // namespace godwit
