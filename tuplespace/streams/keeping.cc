#include "tuplespace/streams/keeping.hh"

#include <cstdio>

namespace godwit {

std::string end_name(const char* kind, const shared::Socket& socket, uint32_t side) {
  char name[96];
  snprintf(name, sizeof name, "%s/%llx/%u/%llx", kind, static_cast<unsigned long long>(socket.offset), side,
           static_cast<unsigned long long>(socket.id));
  return name;
}

std::optional<KeptEnd> find_end(shared::Segment segment, const std::string& name) {
  unsigned long long offset, connection;
  unsigned side;
  if (sscanf(rest_of(name).c_str(), "%llx/%u/%llx", &offset, &side, &connection) != 3) return std::nullopt;
  if (side > 1 || offset % shared::kChunk || offset >= segment.header().size) return std::nullopt;
  const shared::Chunk& chunk = segment.chunks()[offset / shared::kChunk];
  if (offset / shared::kChunk >= segment.header().next_chunk || chunk.state != shared::RunState::kUsed ||
      chunk.kind != shared::RunKind::kSocket)
    return std::nullopt;
  auto* socket = segment.at<shared::Socket>(offset);
  if (socket->id != connection) return std::nullopt;
  return KeptEnd{socket, side};
}

std::string kind_of(const std::string& name) { return name.substr(0, name.find('/')); }
std::string rest_of(const std::string& name) {
  size_t slash = name.find('/');
  return slash == std::string::npos ? std::string() : name.substr(slash + 1);
}

}  // namespace godwit
