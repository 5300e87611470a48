#include "migrate/pieces.hh"

#include "tuplespace/shared/allocator.hh"

#include <string.h>

#include <algorithm>

namespace godwit::migrate {

using shared::kRing;
using shared::Ring;
using shared::Socket;

namespace {

constexpr size_t kSocketBytes = offsetof(Socket, ends) + 2 * sizeof(shared::End);
constexpr size_t kSlotBytes = offsetof(shared::Slot, undo);
constexpr size_t kSetHeadBytes = shared::kSetHead;

Error malformed() { return make_error(std::errc::bad_message, "what came of the pod's sockets is malformed"); }

std::string_view raw(const void* p, size_t n) { return {static_cast<const char*>(p), n}; }

// A socket's header at one moment, by itself. The pod is frozen, but its peers are not: they may read on in a ring
// that it writes, and write on behind the tail of one that it reads. So positions are looked at once, here; the bytes
// between them stay where they are.
class Header {
 public:
  explicit Header(std::string_view bytes) {
    memset(storage_, 0, sizeof storage_);
    memcpy(storage_, bytes.data(), bytes.size());
  }
  const Socket& get() const { return *reinterpret_cast<const Socket*>(storage_); }
  std::string_view bytes() const { return raw(storage_, kSocketBytes); }

 private:
  alignas(Socket) char storage_[sizeof(Socket)];
};

// The stretch of a ring that the pod needs: what is unread, and where one of its threads was stopped in the middle
// of a write, the room that it is writing to.
std::string ring_bytes(Socket& socket, uint32_t ring, const Ring& then, bool in_write) {
  uint64_t head = then.head.load(), n = in_write ? kRing : then.tail.load() - head;
  if (n > kRing) n = 0;  // damaged: the target refuses what is not in step
  if (in_write && then.reserved < kRing && shared::reserve(ring_data(socket, ring), kRing) != 0)
    n = shared::readable(then);
  std::string bytes(n, 0);
  if (n) copy_out(socket, ring, head, bytes.data(), n);
  return bytes;
}

void pack_socket(Packer& out, Socket& socket, uint32_t index, uint64_t pod, Unread* unread) {
  Header header(raw(&socket, kSocketBytes));
  const Socket& then = header.get();
  uint32_t sides = sides_of(then, pod);
  out.array(7).add(index).add(socket.offset).add(Bin{header.bytes()});
  for (uint32_t ring = 0; ring < 2; ++ring) {
    const Ring& r = then.rings[ring];
    bool writes = sides >> ring & 1;
    std::string bytes;
    if (sides) bytes = ring_bytes(socket, ring, r, writes && then.ends[ring].write_lock.load());
    uint64_t n = sides ? shared::readable(r) : 0;
    unread->bytes += n;
    unread->tuples += n != 0;
    out.add(r.head.load()).add(Bin{bytes});
  }
}

void pack_set(Packer& out, const shared::Set& set, uint64_t offset) {
  std::vector<uint32_t> used;
  // Pages of entries that were never reserved must not be touched: descriptor numbers are low and dense.
  for (uint32_t i = 0; i < set.entry_limit.load(); ++i)
    if (set.entries[i].word) used.push_back(i);
  out.array(3).add(offset).add(Bin{raw(&set, kSetHeadBytes)}).array(used.size());
  for (uint32_t i : used) out.array(2).add(i).add(Bin{raw(&set.entries[i], sizeof(shared::WatchEntry))});
}

void pack_area(Packer& out, shared::Area& area, uint64_t offset) {
  out.array(3).add(offset).add(Bin{raw(area.processes, sizeof area.processes)});
  uint32_t count = area.slot_count.load();
  out.array(count);
  for (uint32_t i = 0; i < count; ++i)
    out.add(Bin{i == 0 ? std::string_view() : raw(&area.slots[i], kSlotBytes)});
}

template <class T>
bool element(const msgpack::object& array, uint32_t index, T& to) {
  return array.type == msgpack::type::ARRAY && index < array.via.array.size && godwit::decode(array.via.array.ptr[index], to);
}

}  // namespace

uint32_t sides_of(const Socket& socket, uint64_t pod) {
  if (socket.state.load() != shared::SocketState::kConnected) return 0;
  return (socket.ends[0].pod == pod ? 1u : 0u) | (socket.ends[1].pod == pod ? 2u : 0u);
}

std::vector<SocketNote> note_sockets(shared::Segment segment, uint64_t pod) {
  std::vector<SocketNote> notes;
  shared::for_each_run(segment, [&](shared::Offset offset, const shared::Chunk& chunk) {
    if (chunk.kind != shared::RunKind::kSocket) return;
    const Socket& socket = *segment.at<Socket>(offset);
    SocketNote note;
    note.offset = offset;
    note.sides = sides_of(socket, pod);
    bool connected = socket.state.load() == shared::SocketState::kConnected;
    if (!note.sides && (connected || chunk.pod != pod)) return;
    if (note.sides) note.connection = socket.id;
    if (note.sides == 1 || note.sides == 2) note.peer = socket.ends[2 - note.sides].pod;
    if (!connected) note.listener = socket.listener;
    notes.push_back(note);
  });
  return notes;
}

std::string encode(const std::vector<SocketNote>& notes) {
  Packer out;
  out.array(notes.size());
  for (const SocketNote& n : notes)
    out.array(5).add(n.offset).add(n.connection).add(n.listener).add(n.sides).add(n.peer);
  return out.take();
}

Result<std::vector<SocketNote>> decode_notes(std::string_view bytes) {
  auto object = unpack(bytes);
  if (!object) return object.error();
  std::vector<msgpack::object> rows;
  if (!godwit::decode(object->get(), rows)) return malformed();
  std::vector<SocketNote> notes;
  for (const msgpack::object& row : rows) {
    SocketNote n;
    if (!element(row, 0, n.offset) || !element(row, 1, n.connection) || !element(row, 2, n.listener) ||
        !element(row, 3, n.sides) || !element(row, 4, n.peer))
      return malformed();
    notes.push_back(n);
  }
  return notes;
}

std::string capture(shared::Segment segment, uint64_t pod, const std::vector<ControlPiece>& pieces,
                    Unread* unread) {
  *unread = Unread{};
  std::vector<const ControlPiece*> of[4];
  for (const ControlPiece& piece : pieces)
    if (piece.address && static_cast<uint32_t>(piece.kind) < 4) of[static_cast<uint32_t>(piece.kind)].push_back(&piece);
  auto kind = [&](PieceKind k) -> auto& { return of[static_cast<uint32_t>(k)]; };
  Packer out;
  out.array(4).add(pod);
  out.array(kind(PieceKind::kArea).size());
  for (auto* piece : kind(PieceKind::kArea)) pack_area(out, *segment.at<shared::Area>(piece->offset), piece->offset);
  out.array(kind(PieceKind::kSocket).size());
  for (auto* piece : kind(PieceKind::kSocket)) 
    pack_socket(out, *segment.at<Socket>(piece->offset), static_cast<uint32_t>(piece - pieces.data()), pod, unread);
  out.array(kind(PieceKind::kSet).size());
  for (auto* piece : kind(PieceKind::kSet)) pack_set(out, *segment.at<shared::Set>(piece->offset), piece->offset);
  return out.take();
}

Result<Captured> Captured::parse(std::string_view bytes) {
  Captured c;
  auto object = unpack(bytes);
  if (!object) return object.error();
  c.handle_ = std::move(*object);
  std::vector<msgpack::object> areas, sockets, sets;
  const msgpack::object& top = c.handle_.get();
  if (!element(top, 0, c.pod_) || !element(top, 1, areas) || !element(top, 2, sockets) || !element(top, 3, sets) ||
      areas.size() > 1)
    return malformed();
  auto bin = [&](const msgpack::object& row, uint32_t i, std::string_view& to) {
    Bin b;
    if (!element(row, i, b)) return false;
    to = b.data;
    return true;
  };
  for (const msgpack::object& row : areas) {
    std::vector<msgpack::object> slots;
    if (!element(row, 0, c.area_.offset) || !bin(row, 1, c.area_.processes) || !element(row, 2, slots) ||
        c.area_.processes.size() != sizeof(shared::Area::processes) || slots.size() > shared::kSlots)
      return malformed();
    for (const msgpack::object& slot : slots) {
      Bin b;
      if (!godwit::decode(slot, b) || (b.data.size() != kSlotBytes && !b.data.empty())) return malformed();
      c.area_.slots.push_back(b.data);
    }
  }
  for (const msgpack::object& row : sockets) {
    SocketPart part;
    if (!element(row, 0, part.index) || !element(row, 1, part.offset) || !bin(row, 2, part.header) ||
        part.header.size() != kSocketBytes)
      return malformed();
    for (uint32_t ring = 0; ring < 2; ++ring) {
      RingBytes& r = part.rings[ring];
      if (!element(row, 3 + 2 * ring, r.from) || !bin(row, 4 + 2 * ring, r.bytes) || r.bytes.size() > kRing)
        return malformed();
    }
    c.sockets_.push_back(part);
  }
  for (const msgpack::object& row : sets) {
    SetPart part;
    std::vector<msgpack::object> entries;
    if (!element(row, 0, part.offset) || !bin(row, 1, part.head) || part.head.size() != kSetHeadBytes ||
        !element(row, 2, entries))
      return malformed();
    for (const msgpack::object& entry : entries) {
      uint32_t index;
      std::string_view value;
      if (!element(entry, 0, index) || index >= shared::kSetSize || !bin(entry, 1, value) ||
          value.size() != sizeof(shared::WatchEntry))
        return malformed();
      part.entries.emplace_back(index, value);
    }
    c.sets_.push_back(std::move(part));
  }
  return c;
}

namespace {

// A ring that only the pod and the carrier use here: as it was.
void put_whole(Socket& to, const Ring& from, uint32_t ring, uint64_t at, std::string_view bytes) {
  Ring& r = to.rings[ring];
  copy_in(to, ring, at, bytes.data(), bytes.size());
  r.head.store(from.head.load());
  r.consumed = from.head.load();
  r.sent.store(from.sent.load());
  r.tail.store(from.tail.load());
  r.finished.store(from.finished.load());
  r.refused.store(from.refused.load());
  r.writer_waits.store(1);
}

// A ring that the pod writes and a program of this host reads: it lacks what had not arrived yet.
void put_missing(Socket& to, const Ring& from, uint32_t ring, uint64_t at, std::string_view bytes) {
  Ring& r = to.rings[ring];
  uint64_t have = std::max(r.tail.load(), at), end = at + bytes.size();
  if (have < end) copy_in(to, ring, have, bytes.data() + (have - at), end - have);
  if (r.tail.load() < from.tail.load()) r.tail.store(from.tail.load(), std::memory_order_release);
  r.finished.store(from.finished.load());
}

// A ring that the pod reads and a program of this host writes: every byte is here; how far the pod had read is news.
void put_progress(Ring& to, const Ring& from) {
  if (to.head.load() < from.head.load()) to.head.store(from.head.load(), std::memory_order_release);
  to.refused.store(from.refused.load());
}

void put_end(shared::End& to, const shared::End& from, uint32_t epoch, const Places& places) {
  memcpy(static_cast<void*>(&to), &from, sizeof to);
  to.epoch = epoch;
  uint32_t watched = 0;
  for (auto& watch : to.watches) {
    shared::Watch w = watch.load();
    auto place = places.find(shared::watch_set(w));
    bool known = w && place != places.end();
    watch.store(known ? place->second | shared::watch_index(w) : 0);
    watched += known;
  }
  to.watched.store(watched);
}

}  // namespace

Result<void> Captured::put_bytes(shared::Segment segment, const Places& places,
                                 const std::map<uint64_t, bool>& existing) const {
  for (const SocketPart& part : sockets_) {
    auto place = places.find(part.offset);
    if (place == places.end()) return malformed();
    Header header(part.header);
    const Socket& from = header.get();
    Socket& to = *segment.at<Socket>(place->second);
    uint32_t sides = sides_of(from, pod_);
    for (uint32_t ring = 0; ring < 2; ++ring) {
      const Ring& r = from.rings[ring];
      uint64_t unread = r.tail.load() - r.head.load();
      bool in_step = part.rings[ring].from == r.head.load() && part.rings[ring].bytes.size() >= unread;
      if (sides && (unread > kRing || !in_step)) return malformed();
    }
    if (existing.contains(part.offset)) {
      if (to.id != from.id) return malformed();
      uint32_t writes = sides == 1 ? 0 : 1;
      put_missing(to, from.rings[writes], writes, part.rings[writes].from, part.rings[writes].bytes);
      put_progress(to.rings[1 - writes], from.rings[1 - writes]);
      continue;
    }
    uint64_t reserved[2] = {to.rings[0].reserved, to.rings[1].reserved};
    memcpy(static_cast<void*>(&to), part.header.data(), part.header.size());
    to.offset = place->second;
    for (uint32_t ring = 0; ring < 2; ++ring) {
      to.rings[ring].reserved = reserved[ring];
      if (!sides) continue;
      if (reserved[ring] < kRing && shared::reserve(ring_data(to, ring), kRing) != 0)
        return make_error(std::errc::no_space_on_device, "place the pod's connections; make room in /dev/shm");
      to.rings[ring].reserved = kRing;
      put_whole(to, from.rings[ring], ring, part.rings[ring].from, part.rings[ring].bytes);
    }
  }
  // A watch knows its socket's generation, which is that of the piece here.
  std::map<uint32_t, uint32_t> generations;
  for (const SocketPart& part : sockets_)
    generations[part.index] = segment.at<Socket>(places.at(part.offset))->generation.load();
  for (const SetPart& part : sets_) {
    auto place = places.find(part.offset);
    if (place == places.end()) return malformed();
    shared::Set& set = *segment.at<shared::Set>(place->second);
    for (const auto& [index, entry] : part.entries) {
      if (shared::reserve_entry(set, index) != 0)
        return make_error(std::errc::no_space_on_device, "place the pod's epoll sets; make room in /dev/shm");
      memcpy(&set.entries[index], entry.data(), entry.size());
      auto generation = generations.find(descriptor_piece(set.entries[index].word));
      if (generation != generations.end()) set.entries[index].generation = generation->second;
    }
    uint32_t limit = set.entry_limit.load();
    memcpy(static_cast<void*>(&set), part.head.data(), part.head.size());
    set.entry_limit.store(limit);
    set.offset = place->second;
  }
  return {};
}

Result<void> Captured::put_ends(shared::Segment segment, uint64_t pod, uint32_t epoch, const Places& places) const {
  for (const SocketPart& part : sockets_) {
    auto place = places.find(part.offset);
    if (place == places.end()) return malformed();
    Header header(part.header);
    const Socket& from = header.get();
    Socket& to = *segment.at<Socket>(place->second);
    for (uint32_t side = 0; side < 2; ++side)
      if (from.ends[side].pod == pod) put_end(to.ends[side], from.ends[side], epoch, places);
  }
  // What rang while the pod was away rang for the node: every watched socket is looked at once.
  for (const SetPart& part : sets_) {
    auto set = places.find(part.offset);
    if (set == places.end()) return malformed();
    for (const auto& [index, entry] : part.entries) shared::mark(*segment.at<shared::Set>(set->second), index);
  }
  auto place = places.find(area_.offset);
  if (area_.slots.empty() || place == places.end()) return {};
  shared::Area& area = *segment.at<shared::Area>(place->second);
  memcpy(static_cast<void*>(area.processes), area_.processes.data(), area_.processes.size());
  if (shared::reserve(area.slots, area_.slots.size() * sizeof(shared::Slot)) != 0)
    return make_error(std::errc::no_space_on_device, "place the pod's slots; make room in /dev/shm");
  for (size_t i = 1; i < area_.slots.size(); ++i)
    memcpy(static_cast<void*>(&area.slots[i]), area_.slots[i].data(), area_.slots[i].size());
  area.slot_count.store(static_cast<uint32_t>(area_.slots.size()));
  return {};
}

}  // namespace godwit::migrate
