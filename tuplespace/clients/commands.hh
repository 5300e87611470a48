#pragma once
#include <span>

#include "tuplespace/command/command.hh"

namespace godwit {

/// keygen.
std::span<const Command> client_commands();

}  // namespace godwit
