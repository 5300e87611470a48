// The spaces of another host, by a client's key.
#pragma once
#include "tuplespace/space/host_spaces.hh"

namespace godwit::remote {

/// errors  those of read_key_file. Connects with the first operation.
Result<std::shared_ptr<HostSpaces>> remote_spaces(const std::string& key_file);

}  // namespace godwit::remote
