// Moments in which a mediator takes part in a connection, be it its own or that of two programs.
#pragma once
#include <functional>

#include "tuplespace/shared/socket.hh"

namespace godwit {

/// While it lives no run of the segment is given back and no member leaves: a connection that is found stays.
class Still {
 public:
  explicit Still(shared::Thread& self);
  ~Still();
  Still(const Still&) = delete;

  /// Null: there is none, or both of its ends have ended.
  shared::Socket* find(uint64_t connection) const;

 private:
  shared::Thread& self_;
};

/// The end of a connection at which something is to be done, and who does it.
struct Visit {
  uint64_t mediator;  // its pod; 0: it has none, and so no ends
  uint64_t connection;
  uint32_t side;
};

/// Whether a mediator can do something there: the end is a program's or a mediator's on this host, and who sleeps at
/// either end can be rung.
bool can_visit(shared::Thread& self, const Visit& visit);

/// Calls f(socket) with that lock of the end: the end's program and other mediators keep off meanwhile.
/// returns false, and calls nothing, if that is no end to visit.
bool visit_end(shared::Thread& self, const Visit& visit, std::atomic<uint32_t> shared::End::*lock,
               const std::function<void(shared::Socket&)>& f);

}  // namespace godwit
