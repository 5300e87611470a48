// The spaces of this host, in its segment.
#pragma once
#include "tuplespace/space/backend.hh"
#include "tuplespace/space/host.hh"
#include "tuplespace/space/undertaking.hh"
#include "tuplespace/space_facts.hh"
#include "tuplespace/store/spaces_table.hh"

namespace godwit {

Result<std::shared_ptr<Backend>> local_backend(std::shared_ptr<Host> host, std::string_view name);

/// A transaction of the calling thread.
Result<std::shared_ptr<Undertaking>> begin_undertaking(std::shared_ptr<Host> host);

/// errors  those of store/spaces_table.hh, and of joining the segment.
Result<void> create_space(Host& host, std::string_view name, const SpaceOptions& options);
Result<void> drop_space(Host& host, std::string_view name);
Result<std::vector<SpaceFacts>> list_spaces(Host& host);
Result<std::vector<store::WaitFacts>> list_waits(Host& host);

}  // namespace godwit
