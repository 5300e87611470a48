// What a tuple must be to be put into a space.
#pragma once
#include "tuplespace/tuple.hh"

namespace godwit {

/// Throws message_size (it nests too deep), illegal_byte_sequence (a string is not UTF-8).
void check_tuple(TupleView tuple);

}  // namespace godwit
