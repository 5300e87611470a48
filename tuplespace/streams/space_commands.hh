// The subcommands about tuples: rd, rdp, count; and out, in, inp, which socket traffic refuses.
#pragma once
#include <span>

#include "tuplespace/command/command.hh"

namespace godwit {

std::span<const Command> space_commands();

}  // namespace godwit
