// The subcommands of this room: node, hosts, ps, stop, kill, logs, and the hidden keeper and faults.
#pragma once
#include <span>

#include "tuplespace/command/command.hh"

namespace godwit {

std::span<const Command> node_commands();
std::span<const Command> pod_commands();

}  // namespace godwit
