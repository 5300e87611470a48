// How a command talks to the node of its home: one request at a time, and the node started if need be.
#pragma once
#include <string>
#include <string_view>

#include "tuplespace/node/home.hh"
#include "tuplespace/node/rpc.hh"
#include "tuplespace/node/transport.hh"

namespace godwit {

class NodeClient {
 public:
  /// Starts the node if none runs.
  static Result<NodeClient> connect(const Home& home);

  /// Errors: timed_out, and the method's. A retry within `patience` is the client's business.
  Answer call(std::string_view method, const Packed& params, Loop::Clock::duration patience);

 private:
  NodeClient(std::unique_ptr<Transport> transport, std::string endpoint)
      : transport_(std::move(transport)), endpoint_(std::move(endpoint)) {}
  std::optional<Answer> wait_for(Socket& socket, uint64_t sequence, Loop::Clock::time_point until, bool& heard);

  std::unique_ptr<Transport> transport_;
  std::string endpoint_;
  uint64_t session_ = random_u64();
  uint64_t sequence_ = 0;
};

/// Runs a node for this home unless one does. Returns when it serves. The node keeps none of our
/// descriptors, and is no child of ours.
Result<void> ensure_node(const Home& home);

}  // namespace godwit
