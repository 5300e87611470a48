// A client's socket: a ZeroMQ DEALER under CURVE, with what became of its handshake.
//
// One thread uses it at a time; its descriptors may be polled meanwhile. They signal changes, not states: who has used the
// dealer receives until there is nothing more.
#pragma once
#include <zmq.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tuplespace/remote/key_file.hh"

namespace godwit {

/// ZeroMQ of this process. Never ended: its threads are the process's.
class DealerContext {
 public:
  DealerContext();

 private:
  friend class Dealer;
  void* context_;
};

class Dealer {
 public:
  /// Connects, which goes on behind.
  /// errors  of ZeroMQ: no more sockets, an address that is none.
  static Result<std::unique_ptr<Dealer>> connect(DealerContext& context, const ClientKey& key);
  ~Dealer();
  Dealer(const Dealer&) = delete;

  /// False: it is not taken now; nothing was sent.
  bool send(std::string_view protocol, std::string_view head, std::string_view body);
  /// The last frame of the next message that speaks the protocol, if one is here.
  std::optional<std::string> receive(std::string_view protocol);
  int fd() const { return fd_; }
  int monitor_fd() const { return monitor_fd_; }
  /// What has happened to it since this was last asked: the other side has refused the key; a connection was lost, and with it
  /// perhaps messages.
  struct Events {
    bool refused = false, lost = false;
  };
  Events events();

 private:
  Dealer(void* socket, void* monitor);
  void *socket_, *monitor_;
  int fd_, monitor_fd_;
};

}  // namespace godwit
