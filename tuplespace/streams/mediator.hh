// Mediators: who may `in` and `out` the tuples of the space `net`. docs/spaces.md, "Mediators".
//
// A mediator can be the server of connections: it listens, `in` of ("connect", ...) accepts, and from then on it takes
// the bytes that the client sends and puts those that the client reads. Or it stands between two programs of this host
// and takes and puts bytes of their streams as they go by.
//
// What must stay true: whatever kills it, every byte is the program's or was the mediator's, once, and in order; and its
// own ends are then to programs what the sockets of a killed server are. For that it is a member of the segment like a
// pod, with its own area: the node sees that the slot in it is dead (remove_dead_mediators). Ends it takes part in
// only for a moment, in which it holds the end's lock as a thread of the end's own pod would, in a slot of its area.
#pragma once
#include <map>
#include <memory>
#include <stop_token>

#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/result.hh"
#include "tuplespace/streams/source.hh"

namespace godwit {

class StreamMediator {
 public:
  /// self: the calling thread's standing in the segment; the StreamMediator is that thread's.
  explicit StreamMediator(shared::Thread& self);
  /// Ends the listeners, and the connections as a server's process that exits.
  ~StreamMediator();
  StreamMediator(const StreamMediator&) = delete;

  /// Listens in the community's network, for programs of this host.
  ///
  /// host     numeric; 0.0.0.0 and :: are all of the community's addresses.
  /// returns  the port: `port`, or the one chosen if that is 0.
  /// errors   address_in_use, invalid_argument, no_space_on_device.
  Result<uint16_t> listen(const std::string& host, uint16_t port);

  /// Takes the oldest tuple that matches any of `wanted` and that can be taken, waiting until there is one: a connection
  /// that waits at one of its listeners, or all that is unread of a stream whose reader is a program of this host or the
  /// mediator. The end of a stream that the mediator reads has nil for DATA, once all bytes are taken.
  /// errors  timed_out; operation_canceled: `stop`. Nothing is taken then.
  [[nodiscard]] Result<Tuple> in(std::span<const TemplateView> wanted, Deadline deadline = kForever, std::stop_token stop = {});
  /// The same without waiting. nullopt: there is none.
  [[nodiscard]] std::optional<Tuple> inp(std::span<const TemplateView> wanted);

  /// Appends the DATA of ("stream", CONNECTION, DIRECTION, OFFSET, DATA) to a stream that a program of this host or the
  /// mediator writes, waiting for room for all of it. DATA nil: the end of a stream that the mediator writes.
  /// errors  timed_out, operation_canceled, invalid_argument (also: OFFSET is not where the stream ends; the text says
  ///         where it does), broken_pipe: it has ended. Nothing is put then.
  Result<void> out(TupleView tuple, Deadline deadline = kForever, std::stop_token stop = {});

 private:
  class HangUps;
  struct Put;
  struct Listening {
    uint64_t id;
    shared::Offset piece;
    UniqueFd socket;
  };
  struct Connection {  // its end 1 is ours
    shared::Socket* socket;
    UniqueFd placeholder;
    bool accepted = false;    // by in; until then it waits
    bool end_taken = false;   // of c>s
  };
  using Connections = std::map<uint64_t, Connection>;

  Result<void> join();
  Result<Listening> enter(shared::Socket& piece, shared::Address* address);
  void collect();
  void close_if_over(uint64_t connection);
  void close(Connections::iterator own);
  void free_run(shared::Offset run);

  std::optional<Tuple> look(std::span<const TemplateView> wanted);
  std::optional<Tuple> look_for_end(std::span<const TemplateView> wanted);
  bool can_take(TupleView tuple);
  bool take(const Tuple& tuple);
  bool accept(uint64_t connection);
  bool take_end(uint64_t connection);
  bool take_bytes(uint64_t connection, uint32_t ring, uint64_t offset, uint64_t n);

  static Result<Put> parse(TupleView tuple);
  static std::optional<Error> check(const shared::Socket& socket, const Put& put);
  Result<bool> put_end(const Put& put);
  Result<bool> put_bytes(const Put& put);
  void wait_for_room(const Put& put, Deadline deadline);

  void ring(uint64_t connection, uint32_t to, uint32_t events);
  void ring_for_room(uint64_t connection, uint32_t ring);

  shared::Thread& self_;
  StreamSource source_;
  uint64_t pod_ = 0;     // ours, from the first listen on
  shared::Thread life_;  // our slot in its area
  std::vector<Listening> listening_;
  Connections connections_;
  std::unique_ptr<HangUps> hang_ups_;
};

/// Ends what mediators that were killed have left, as Linux does with a killed server. In the thread that removes pods.
void remove_dead_mediators(shared::Thread& self);

/// Whether mediators keep off the streams of a pod, because it is about to leave or has not come: when this returns, none
/// is at them.
void keep_mediators_off(shared::Thread& self, uint64_t pod, bool off);

/// Rings for mediators that were killed between a change of others' streams and the ring for it. Before their slots
/// are reaped.
void ring_for_dead_mediators(shared::Thread& self);

}  // namespace godwit
