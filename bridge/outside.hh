// One outside connection: a real TCP socket on one side, an end of a connection in the space on the other.
//
// Exactly once, over the node's death too: bytes from outside are received straight into the ring, behind its
// tail, and bytes to outside are sent straight from it; so what the kernel says of its socket (bytes received and
// not read, bytes sent) and the two positions together tell what happened last. settle() puts them in order.
#pragma once
#include <functional>

#include "tuplespace/streams/streams.hh"

namespace godwit {

class Outside final : public EndUser {
 public:
  /// `side` is the bridge's end: 0 for a client outside, 1 for a server outside. on_end is called once, when both
  /// directions are over; it may destroy this.
  Outside(Streams& streams, shared::Socket& socket, uint32_t side, UniqueFd real, std::function<void()> on_end);
  ~Outside() override;

  /// Takes the bridge's end. `placeholder` is that end's.
  Result<void> start(UniqueFd placeholder);
  shared::Socket& socket() { return socket_; }
  int real() const { return real_.get(); }

  void look() override;
  void gone() override;

 private:
  shared::Ring& to_outside() { return socket_.rings[1 - side_]; }
  shared::Ring& from_outside() { return socket_.rings[side_]; }
  void settle();
  bool send_out();
  void receive();
  void outside_ended(int error);
  void on_real(uint32_t events);
  void forget_real();
  void want(uint32_t events);
  void end();

  Streams& streams_;
  shared::Socket& socket_;
  uint32_t side_;
  UniqueFd real_;
  std::function<void()> on_end_;
  uint32_t wanted_ = 0;        // epoll events of the real socket
  bool registered_ = false;    // with the loop
  bool input_over_ = false;    // outside has finished
  bool output_over_ = false;   // we have told outside that the program has finished
};

}  // namespace godwit
