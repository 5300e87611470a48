// The subcommands about tuples and spaces.
#pragma once
#include <span>

#include "tuplespace/command/command.hh"

namespace godwit {

std::span<const Command> space_commands();

}  // namespace godwit
