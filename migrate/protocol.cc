// Encoding of the engines' messages.
#include "migrate/protocol.hh"

#include <algorithm>
#include <cstring>

#include "migrate/wire.hh"

namespace godwit::migrate {

template <class Wire>
bool fields(Wire& w, MappingChange& c) {
  Mapping& m = c.mapping;
  return w(c.kind) && w(m.start) && w(m.end) && w(m.offset) && w(m.protection) && w(m.flags) &&
         w(m.file_size) && w(m.fingerprint) && w(m.path);
}

std::string tagged(Message kind, std::string_view body) {
  std::string message;
  message.reserve(sizeof kind + body.size());
  message.append(plain_bytes(kind)).append(body);
  return message;
}

Result<Message> take_kind(std::string_view& message) {
  Message kind;
  if (message.size() < sizeof kind) return make_error(std::errc::bad_message, "message without a kind");
  std::memcpy(&kind, message.data(), sizeof kind);
  message.remove_prefix(sizeof kind);
  return kind;
}

Result<std::string> expect(Channel& channel, Message wanted, Deadline deadline) {
  auto message = channel.receive(deadline);
  if (!message) return message;
  std::string_view body = *message;
  auto kind = take_kind(body);
  if (!kind) return kind.error();
  if (*kind == Message::kFailed)
    return make_error(std::errc::operation_canceled, "the other host: " + std::string(body.substr(0, 4096)));
  if (*kind != wanted) return make_error(std::errc::bad_message, "message out of turn");
  return std::string(body);
}

std::string memory_head(const std::vector<Extent>& data, const std::vector<Extent>& dropped) {
  Writer w;
  w(Message::kMemory);
  w(data);
  w(dropped);
  return w.take();
}

namespace {
bool valid(const Extent& e) {
  return e.start % kPage == 0 && e.length % kPage == 0 && e.length > 0 && e.start >= kPage &&
         e.start < kAddressLimit && e.length <= kAddressLimit - e.start;
}
}  // namespace

Result<MemoryPart> decode_memory(std::string_view body) {
  Reader r(body);
  MemoryPart part;
  Error bad = make_error(std::errc::bad_message, "memory of the program");
  if (!r(part.data) || !r(part.dropped)) return bad;
  part.bytes = r.rest();
  uint64_t total = 0;
  for (const Extent& e : part.data) {
    if (!valid(e) || e.length > part.bytes.size()) return bad;
    total += e.length;
  }
  if (total != part.bytes.size() || !std::all_of(part.dropped.begin(), part.dropped.end(), valid)) return bad;
  return part;
}

std::string encode_layout(const std::vector<MappingChange>& changes) {
  Writer w;
  w(Message::kLayout);
  w(changes);
  return w.take();
}

Result<std::vector<MappingChange>> decode_layout(std::string_view body) {
  Reader r(body);
  std::vector<MappingChange> changes;
  Error bad = make_error(std::errc::bad_message, "change of the address space");
  if (!r(changes) || !r.finished()) return bad;
  for (const MappingChange& c : changes) {
    const Mapping& m = c.mapping;
    bool file = c.kind == MappingChange::kMap && !m.anonymous();
    if (c.kind < MappingChange::kUnmap || c.kind > MappingChange::kProtect || m.start >= m.end ||
        m.end > kAddressLimit || m.start % kPage || m.end % kPage || m.protection > 7 || m.offset % kPage ||
        (file && (m.path.empty() || m.path[0] != '/' || m.path.find('\0') != m.path.npos)))
      return bad;
  }
  return changes;
}

namespace {

// Only those of the ranges that are there, page by page where need be.
std::vector<Extent> reachable(const Memory& memory, const std::vector<Extent>& ranges) {
  std::vector<Extent> there;
  char page[kPage];
  for (const Extent& e : ranges)
    for (uint64_t at = e.start; at < e.start + e.length; at += kPage)
      if (memory.read(at, page, sizeof page)) there.push_back({at, kPage});
  return there;
}

uint64_t total(const std::vector<Extent>& ranges) {
  uint64_t sum = 0;
  for (const Extent& e : ranges) sum += e.length;
  return sum;
}

Result<std::string> memory_message(const Memory& memory, std::vector<Extent> part, const std::vector<Extent>& dropped,
                                   bool running) {
  for (int tries = 0;; ++tries) {
    std::string message = memory_head(part, dropped);
    size_t head = message.size();
    message.resize(head + total(part));
    auto read = memory.gather(part, message.data() + head);
    if (read) return message;
    if (!running || tries == 5) return read.error();
    part = reachable(memory, part);
  }
}

}  // namespace

Result<void> send_memory(Channel& channel, const Memory& memory, const Changes& changes, bool running) {
  std::vector<Extent> part;
  uint64_t size = 0;
  bool first = true;
  auto flush = [&]() -> Result<void> {
    if (part.empty() && !(first && !changes.dropped.empty())) return {};
    auto message = memory_message(memory, std::move(part), first ? changes.dropped : std::vector<Extent>(), running);
    if (!message) return message.error();
    part.clear();
    size = 0;
    first = false;
    return channel.send(std::move(*message));
  };
  for (Extent e : changes.data) {
    while (e.length) {
      uint64_t n = std::min(e.length, kMemoryMessage - size);
      part.push_back({e.start, n});
      size += n;
      e = {e.start + n, e.length - n};
      if (size == kMemoryMessage)
        if (auto r = flush(); !r) return r;
    }
  }
  return flush();
}

}  // namespace godwit::migrate
