// Ringing ends of which one has no placeholder.
#pragma once
#include "tuplespace/shared/socket.hh"

namespace godwit {

/// Tells end `to` of others' connection that `events` may be so now, as shared::notify(). Whoever sleeps there hears only
/// what comes through the other end's placeholder: a copy of that is taken out of a process that has it, and given up at
/// once. Also for a connection that has ended meanwhile.
void notify_others(shared::Thread& self, uint64_t connection, uint32_t to, uint32_t events);

}  // namespace godwit
