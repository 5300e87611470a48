// What the node gives to the keeper, so that a restarted node can take it up again: descriptors of connections,
// proxies and outside sockets, under names that say what they are.
//
// "far/OFFSET/SIDE/CONNECTION"      placeholder of an end that the node uses for a pod elsewhere
// "outside/OFFSET/SIDE/CONNECTION"  placeholder and real socket of an outside connection
// "proxy/LISTENER"                  listener under an abstract name
// "port/ADDRESS/PORT"               published real port
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tuplespace/node/keeper.hh"
#include "tuplespace/shared/socket.hh"

namespace godwit {

std::string end_name(const char* kind, const shared::Socket& socket, uint32_t side);

/// The end that a name is about, if its connection still stands there.
struct KeptEnd {
  shared::Socket* socket;
  uint32_t side;
};
std::optional<KeptEnd> find_end(shared::Segment segment, const std::string& name);

/// The word of a name before the first slash.
std::string kind_of(const std::string& name);
/// What follows it.
std::string rest_of(const std::string& name);

}  // namespace godwit
