// The bridge of one host: real ports of it that lead to wrapped servers, and wrapped clients' connections to programs
// outside the community.
//
// A bridge is a pod that never moves: its ends belong to kBridgePod | host number. To a wrapped server an outside client
// is one more client that comes by the listener's abstract name, so the server may be here, elsewhere or on its way.
#pragma once
#include <map>
#include <memory>

#include "bridge/outside.hh"
#include "tuplespace/node/node.hh"
#include "tuplespace/streams/service.hh"

namespace godwit {

class BridgeService {
 public:
  explicit BridgeService(Node& node);

 private:
  using PortKey = std::pair<std::string, uint16_t>;
  struct Published {
    PublishedPort entry;
    UniqueFd listener;
  };

  Result<void> start();
  void publish(const msgpack::object& params, Reply reply);
  Result<void> open(const PublishedPort& port);
  Result<void> serve(const PublishedPort& port, UniqueFd listener);
  void take_up_port(Keeper::Held held);
  void close(const PublishedPort& port);
  void on_outside_client(const PortKey& key);
  void serve_client(const PublishedPort& port, UniqueFd client, const shared::Address& from);
  void on_egress();
  void connect_outside(shared::Socket& socket, UniqueFd placeholder);
  void connected_outside(shared::Socket& socket, UniqueFd placeholder, UniqueFd real);
  void refuse_program(shared::Socket& socket, UniqueFd placeholder, int error);
  void hold(shared::Socket& socket, uint32_t side, UniqueFd placeholder, UniqueFd real);
  uint64_t own_pod() const { return kBridgePod | node_.host_number(); }

  Node& node_;
  std::map<PortKey, Published> published_;
  std::map<uint64_t, std::unique_ptr<Outside>> outside_;  // by connection
  UniqueFd egress_;
};

void register_bridge(Node& node);

}  // namespace godwit
