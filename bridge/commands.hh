// What the bridge brings to the executable.
#pragma once
#include <span>

#include "bridge/service.hh"
#include "tuplespace/command/command.hh"

namespace godwit {

inline std::span<const Command> bridge_commands() { return {}; }

}  // namespace godwit
