// What others do for a thread that was killed.
#pragma once
#include "tuplespace/shared/thread.hh"

namespace godwit::shared {

/// Phase 1: undoes the dead owner's half-done change and frees its locks. Idempotent; holds kRecovery.
void release_dead(Thread& self, uint32_t owner);

}  // namespace godwit::shared
