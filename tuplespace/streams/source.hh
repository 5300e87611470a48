// Socket traffic of this host as tuples: ("connect", HOST, PORT, CONNECTION, FROM) for each connection that waits for
// an accept, ("stream", CONNECTION, DIRECTION, OFFSET, DATA) for each direction with bytes that its reader has not taken.
//
// Looking takes nothing, holds up nobody and changes nothing but the words that ask for a ring (bell.hh).
// Of a connection between hosts, the reader's host shows what has arrived, the writer's what it has not yet handed
// over; so no byte is shown twice, and what is between the two is shown by neither.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/shared/socket.hh"
#include "tuplespace/source.hh"

namespace godwit {

/// DIRECTION of a stream tuple, by ring.
inline constexpr std::string_view kDirections[2] = {"c>s", "s>c"};

class StreamSource final : public TupleSource {
 public:
  /// Whether a pod (or bridge) runs on this host. The default goes by the segment's members.
  using IsHere = std::function<bool(uint64_t pod)>;
  /// self: the calling thread's standing in the segment; everything of the source is called by that thread.
  explicit StreamSource(shared::Thread& self, IsHere is_here = {});

  void for_each(std::span<const TemplateView> wanted, const Visit& visit) override;
  uint32_t subscribe(std::span<const TemplateView> wanted) override;
  void wait(uint32_t mark, Deadline deadline) override;

 private:
  // A connection of the segment, as it was when the runs were listed.
  struct Connection {
    shared::Socket* socket;
    const shared::Chunk* chunk;
    uint64_t id;
    uint32_t generation;
    char text[shared::kConnectionText];
  };
  std::vector<Connection> connections();
  bool still(const Connection& c) const;
  bool show_request(const Connection& c, const Visit& visit);
  bool show_stream(const Connection& c, uint32_t ring, const Visit& visit);
  bool shown_here(const Connection& c, uint32_t ring, bool* far) const;
  bool unread(const Connection& c, uint32_t ring, bool far, uint64_t* offset);

  shared::Thread& self_;
  IsHere is_here_;
  bool by_members_;
  std::vector<uint64_t> members_;  // pods of this host, sorted; when by_members_
  std::string bytes_;
};

}  // namespace godwit
