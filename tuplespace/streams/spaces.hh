// The node's part in spaces: looks and waits at this host's tuple source for the commands and nodes of the community.
//
// What must stay true: a parked request is looked at again whenever a tuple that it may match has come, and costs
// nothing until then; it is answered by its time at the latest, also when its caller is gone.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/result.hh"
#include "tuplespace/template.hh"
#include "tuplespace/tuple.hh"
#include "tuplespace/wire.hh"

namespace godwit {

class Node;

/// The space of socket traffic.
inline constexpr std::string_view kNetSpace = "net";

Packed pack_templates(std::span<const TemplateView> wanted);
Result<std::vector<Template>> unpack_templates(const msgpack::object& packed);
/// nil is nullopt.
Result<std::optional<Tuple>> unpack_found(const msgpack::object& packed);

void register_spaces(Node& node);

}  // namespace godwit
