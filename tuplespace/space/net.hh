// The space "net": the socket traffic of the programs in the community. Looks at this host's segment itself, and asks the
// other hosts through the node.
#pragma once
#include "tuplespace/space/backend.hh"
#include "tuplespace/space/host.hh"

namespace godwit {

std::shared_ptr<Backend> net_backend(std::shared_ptr<Host> host);

}  // namespace godwit
