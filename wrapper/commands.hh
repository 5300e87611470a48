// The wrapper's room in the executable: `godwit run`, and the node's service for the pods of its host.
#pragma once
#include <span>

#include "tuplespace/command/command.hh"

namespace godwit {

class Node;

std::span<const Command> wrapper_commands();
void register_wrapper(Node& node);

}  // namespace godwit
