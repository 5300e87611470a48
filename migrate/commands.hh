// What moving brings to the executable.
#pragma once
#include <span>

#include "migrate/move.hh"
#include "tuplespace/command/command.hh"

namespace godwit {

std::span<const Command> migrate_commands();
using migrate::register_migrate;

}  // namespace godwit
