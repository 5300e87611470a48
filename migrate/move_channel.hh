// The message pipe of one move: a ZeroMQ ROUTER on the target, a DEALER on the source, under CURVE, each used by
// the one thread that moves there.
#pragma once
#include <atomic>

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
  /// Gives up after ten seconds of silence, too: the other side always has something to say sooner.
  Result<std::string> receive(Deadline deadline) override;
  /// Ends a receive that waits in another thread, and all later ones. Any thread.
  void cut() { cut_ = true; }

 private:
  MoveChannel(godwit::Socket socket, bool router) : socket_(std::move(socket)), router_(router) {}
  godwit::Socket socket_;
  bool router_;
  std::atomic<bool> cut_{false};
  std::string peer_;  // ROUTER: who wrote first; nobody else is heard
};

}  // namespace godwit::migrate
