// The node's part in remote clients: the thread that serves them, from the node's start to its end.
#pragma once
#include "tuplespace/node/node.hh"

namespace godwit {

void register_clients(Node& node);

}  // namespace godwit
