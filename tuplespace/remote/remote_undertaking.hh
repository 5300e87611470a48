// A transaction of a session with another host.
#pragma once
#include "tuplespace/remote/link.hh"
#include "tuplespace/space/undertaking.hh"

namespace godwit::remote {

Result<std::shared_ptr<Undertaking>> begin_undertaking(const Link& link);

}  // namespace godwit::remote
