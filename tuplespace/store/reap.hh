#pragma once
#include "tuplespace/store/desk.hh"

namespace godwit::store {

/// Reaps every dead thread, of spaces and else. returns how many. Waits for locks of spaces.
uint32_t reap(Desk& desk);

}  // namespace godwit::store
