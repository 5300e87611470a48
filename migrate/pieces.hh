// What of the segment goes with a pod: its area, its sockets with their unread bytes, its epoll sets.
//
// The source captures it from a frozen pod; the target puts it into pieces of its own segment. Two steps, because
// until the commit the target's node may still be the user of an end that the pod will have:
//   bytes  positions and bytes of rings: facts of the stream, true whoever runs the pod. Before the commit.
//   ends   locks, sleepers, watches, options of the pod's ends. After it, when the node has given the ends up.
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/result.hh"
#include "tuplespace/shared/set.hh"
#include "tuplespace/shared/socket.hh"
#include "tuplespace/wire.hh"
#include "wrapper/control.hh"

namespace godwit::migrate {

/// Which ends of a connection are the pod's: bit 0 the client's, bit 1 the server's.
uint32_t sides_of(const shared::Socket& socket, uint64_t pod);

/// A socket of the pod as the target must know it before the freeze, to choose a place.
struct SocketNote {
  uint64_t offset = 0;      // on the source
  uint64_t connection = 0;  // 0: not connected
  uint64_t listener = 0;    // if it listens
  uint32_t sides = 0;
  uint64_t peer = 0;        // pod of the other end, if that is another
};
/// All that the segment has of the pod at this moment.
std::vector<SocketNote> note_sockets(shared::Segment segment, uint64_t pod);
std::string encode(const std::vector<SocketNote>& notes);
Result<std::vector<SocketNote>> decode_notes(std::string_view bytes);

/// What is in a pod's streams, both ways, and has not been read: stream tuples (one a stream that is not empty), bytes.
struct Unread {
  uint64_t tuples = 0, bytes = 0;
};

/// Everything, of a frozen pod.
std::string capture(shared::Segment segment, uint64_t pod, const std::vector<ControlPiece>& pieces, Unread* unread);

/// Where the target keeps what the source keeps at an offset.
using Places = std::map<uint64_t, uint64_t>;

/// What capture() made, checked.
class Captured {
 public:
  static Result<Captured> parse(std::string_view bytes);

  /// Rings and sets. existing: pieces of the target that another program of this host uses too.
  Result<void> put_bytes(shared::Segment segment, const Places& places, const std::map<uint64_t, bool>& existing) const;
  /// Ends, and the area, whose member stays as the target has set it.
  Result<void> put_ends(shared::Segment segment, uint64_t pod, uint32_t epoch, const Places& places) const;

 private:
  struct RingBytes {
    uint64_t from = 0;  // stream position of the first byte
    std::string_view bytes;
  };
  struct SocketPart {
    uint32_t index;   // of the piece in the process's Control
    uint64_t offset;
    std::string_view header;  // the piece's first bytes: struct Socket without its padding
    RingBytes rings[2];
  };
  struct SetPart {
    uint64_t offset;
    std::string_view head;
    std::vector<std::pair<uint32_t, std::string_view>> entries;
  };
  struct AreaPart {
    uint64_t offset = 0;
    std::string_view processes;
    std::vector<std::string_view> slots;  // from slot 0 on; only what lies before the undo log's entries
  };
  msgpack::object_handle handle_;  // the parts point into it
  std::vector<SocketPart> sockets_;
  std::vector<SetPart> sets_;
  AreaPart area_;
  uint64_t pod_ = 0;
};

}  // namespace godwit::migrate
