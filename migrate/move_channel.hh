// The message pipe of one move: a ZeroMQ ROUTER on the target, a DEALER on the source, under CURVE, each used by
// the one thread that moves there.
#pragma once
#include "migrate/channel.hh"
#include "tuplespace/node/transport.hh"

namespace godwit::migrate {

class MoveChannel final : public Channel {
 public:
  /// The target's end, bound at `address` ("tcp://A:*"); the endpoint is set.
  static Result<std::unique_ptr<MoveChannel>> listen(Transport& transport, const std::string& address,
                                                     std::string* endpoint);
  static Result<std::unique_ptr<MoveChannel>> connect(Transport& transport, const std::string& endpoint);

  Result<void> send(std::string message) override;
  Result<std::string> receive(Deadline deadline) override;

 private:
  MoveChannel(godwit::Socket socket, bool router) : socket_(std::move(socket)), router_(router) {}
  godwit::Socket socket_;
  bool router_;
  std::string peer_;  // ROUTER: who wrote first; nobody else is heard
};

}  // namespace godwit::migrate
