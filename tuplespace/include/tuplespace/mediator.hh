// Mediators: programs that play an end of other programs' connections, by in and out on the space "net".
//
//   godwit::Mediator net;
//   net.listen("0.0.0.0", 80);
//   auto [connection, from] = net.in("connect", any, 80, formal<std::string>, any);        // accepts
//   auto [offset, data] = net.in("stream", connection, "c>s", formal<int>, any);           // takes what the client sent
//   net.out("stream", connection, "s>c", 0, Bytes{"HTTP/1.0 200 OK\r\n\r\n"});              // answers
//   net.out("stream", connection, "s>c", 19, Nil{});                                       // the end of the stream
//
// A mediator may also stand between two programs of this host, and take and put bytes of their streams as they go by.
// docs/spaces.md, "Mediators", says what is promised. Whatever kills a mediator, every byte is the program's or was the
// mediator's, once and in order, and its own ends are then what a killed server's sockets are.
//
// threads  in, inp, out and listen are for the thread that made it; the rest is as Space says.
// errors   as Space's, and of out: invalid_argument (OFFSET is not where the stream ends; the text says where it does),
//          broken_pipe (the stream has ended); of listen: address_in_use.
#pragma once
#include "tuplespace/space.hh"

namespace godwit {

class Mediator : public Space {
 public:
  /// home: as Space's.
  explicit Mediator(const std::string& home = "");

  /// Listens in the community's network, for programs of this host. Ends with the mediator, as its connections do.
  /// host     numeric; 0.0.0.0 and :: are all of the community's addresses.
  /// returns  the port: `port`, or the one chosen if that is 0.
  uint16_t listen(const std::string& host, uint16_t port);
};

}  // namespace godwit
