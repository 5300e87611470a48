// The node's part in durable spaces: their log, from its start to its stop.
#pragma once
#include "tuplespace/durable/space_log.hh"
#include "tuplespace/node/node.hh"

namespace godwit {

/// The log of a node that has started.
SpaceLog& space_log(Node& node);
void register_durable(Node& node);

}  // namespace godwit
