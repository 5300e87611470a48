// godwit top.
#pragma once
#include <span>

#include "tuplespace/command/command.hh"

namespace godwit {

std::span<const Command> monitor_commands();

}  // namespace godwit
