// The subcommand of workers.
#pragma once
#include <span>

#include "tuplespace/command/command.hh"

namespace godwit {

std::span<const Command> worker_commands();

}  // namespace godwit
