#include "tuplespace/streams/source.hh"

#include <arpa/inet.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>

#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/bell.hh"
#include "tuplespace/streams/streams.hh"

namespace godwit {

using shared::kClosed;
using shared::kGone;
using shared::kRing;
using shared::Ring;
using shared::Socket;
using shared::SocketState;

namespace {

constexpr size_t kArity = 5;  // of both kinds

bool ended(const shared::End& end) { return end.flags.load() & (kClosed | kGone); }

std::string host_text(const shared::Address& address) {
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(address.family == AF_INET6 ? AF_INET6 : AF_INET, address.bytes, text, sizeof text);
  return text;
}

std::string address_text(const shared::Address& address) {
  std::string host = host_text(address);
  return (address.family == AF_INET6 ? "[" + host + "]" : host) + ":" + std::to_string(address.port);
}

// Whether one of the templates matches tuples that begin like this. Spares us the bytes of all other streams.
bool may_match(std::span<const TemplateView> wanted, TupleView begin) {
  return wanted.empty() || std::any_of(wanted.begin(), wanted.end(), [&](TemplateView one) {
    return one.size() == kArity && match(one.first(begin.size()), begin);
  });
}

bool may_be_request(std::span<const TemplateView> wanted) {
  FieldView kind = FieldView::string("connect");
  return may_match(wanted, {&kind, 1});
}

bool may_be_stream(std::span<const TemplateView> wanted, std::string_view connection, uint32_t ring) {
  std::array begin = {FieldView::string("stream"), FieldView::string(connection), FieldView::string(kDirections[ring])};
  return may_match(wanted, begin);
}

// First byte of the ring that is a tuple of this host.
uint64_t first_unread(const Ring& ring, bool far) {
  uint64_t head = ring.head.load(std::memory_order_acquire);
  return far ? std::max(head, ring.sent.load(std::memory_order_acquire)) : head;
}

// Appends stream bytes [from, to). The kernel copies: a piece may be given back to the system meanwhile, which would be
// SIGBUS in a full /dev/shm; and its writer may be writing, which in C++ would be a race.
bool copy_ring(Socket& socket, uint32_t ring, uint64_t from, uint64_t to, std::string& bytes) {
  uint64_t n = to - from, place = from & (kRing - 1), first = std::min(n, kRing - place);
  size_t old = bytes.size();
  bytes.resize(old + n);
  iovec local{bytes.data() + old, n};
  iovec remote[2] = {{shared::ring_data(socket, ring) + place, first}, {shared::ring_data(socket, ring), n - first}};
  return process_vm_readv(getpid(), &local, 1, remote, n > first ? 2 : 1, 0) == static_cast<ssize_t>(n);
}

}  // namespace

StreamSource::StreamSource(shared::Thread& self, IsHere is_here)
    : self_(self), is_here_(std::move(is_here)), by_members_(!is_here_) {
  if (!by_members_) return;
  is_here_ = [this](uint64_t pod) {
    return pod == own_bridge(self_.segment) || std::binary_search(members_.begin(), members_.end(), pod);
  };
}

// Under the allocator's lock: without it a run that is just being cut could hide those behind it.
std::vector<StreamSource::Connection> StreamSource::connections() {
  const shared::Segment& segment = self_.segment;
  if (by_members_) {
    members_.clear();
    for (const shared::Member& member : segment.header().members)
      if (member.kind == shared::MemberKind::kPod) members_.push_back(member.pod);
    std::sort(members_.begin(), members_.end());
  }
  std::vector<Connection> all;
  shared::lock(self_, shared::kAllocator);
  all.reserve(segment.header().used_chunks * shared::kChunk / shared::kSocketLength + 16);
  shared::for_each_run(segment, [&](shared::Offset offset, const shared::Chunk& chunk) {
    if (chunk.kind != shared::RunKind::kSocket) return;
    Socket& socket = *segment.at<Socket>(offset);
    if (socket.state.load(std::memory_order_acquire) == SocketState::kConnected)
      all.push_back({&socket, &segment.chunks()[offset / shared::kChunk], socket.id, socket.generation.load(), {}});
  });
  shared::unlock(self_, shared::kAllocator);
  // Two ended ends: a piece that is about to be given back, or one just taken again and not yet made anew.
  std::erase_if(all, [](const Connection& c) { return ended(c.socket->ends[0]) && ended(c.socket->ends[1]); });
  std::sort(all.begin(), all.end(), [](const Connection& a, const Connection& b) { return a.id < b.id; });
  for (Connection& c : all) shared::connection_text(c.id, c.text);
  return all;
}

bool StreamSource::still(const Connection& c) const {
  return shared::look_at(*c.chunk).state == shared::RunState::kUsed && c.socket->generation.load() == c.generation &&
         c.socket->state.load() == SocketState::kConnected && c.socket->id == c.id;
}

void StreamSource::for_each(std::span<const TemplateView> wanted, const Visit& visit) {
  bool requests = may_be_request(wanted);
  for (const Connection& c : connections()) {
    if (requests && !show_request(c, visit)) return;
    for (uint32_t ring = 0; ring < 2; ++ring)
      if (may_be_stream(wanted, c.text, ring) && !show_stream(c, ring, visit)) return;
  }
}

bool StreamSource::show_request(const Connection& c, const Visit& visit) {
  Socket& socket = *c.socket;
  const shared::End& server = socket.ends[1];
  if (socket.accepted.load() || ended(server) || (server.pod && !is_here_(server.pod))) return true;
  std::string host = host_text(server.address), from = address_text(socket.ends[0].address);
  int64_t port = server.address.port;
  if (!still(c) || socket.accepted.load()) return true;
  std::array fields = {FieldView::string("connect"), FieldView::string(host), FieldView::of(port),
                       FieldView::string(c.text), FieldView::string(from)};
  return visit(fields);
}

bool StreamSource::shown_here(const Connection& c, uint32_t ring, bool* far) const {
  auto here = [&](const shared::End& end) { return end.pod == 0 || is_here_(end.pod); };
  const shared::End& reader = c.socket->ends[1 - ring];
  *far = !here(reader);
  if (ended(reader)) return false;  // what is left there nobody will read
  return !*far || here(c.socket->ends[ring]);
}

bool StreamSource::show_stream(const Connection& c, uint32_t ring, const Visit& visit) {
  bool far;
  uint64_t offset;
  if (!shown_here(c, ring, &far) || !unread(c, ring, far, &offset) || !still(c)) return true;
  std::array fields = {FieldView::string("stream"), FieldView::string(c.text), FieldView::string(kDirections[ring]),
                       FieldView::of(static_cast<int64_t>(offset)), FieldView::bytes(bytes_)};
  return visit(fields);
}

// Copies the unread bytes [low, end) while their writer and reader go on.
//
// Why it is exact. Let the last round load `tail` as `end`, then `low`, and find it unchanged since before that load.
// As it only grows, it had this value when tail was loaded: at that moment the unread bytes were [low, end). And the
// bytes are theirs: each was copied after a tail beyond it was seen, so it had been written; and it is overwritten by
// the byte one capacity further only once the writer has seen a head beyond it, while head was at most `low`, which is
// at most its own position, after all copying. (`sent` may fall back when a carrier breaks: then all is done again.)
//
// Rounds get shorter, as each copies only what came since the last. A reader that takes all the time all the same gets
// kRounds; then the bytes are those that were unread at the last look, without what was written since.
bool StreamSource::unread(const Connection& c, uint32_t ring, bool far, uint64_t* offset) {
  constexpr int kRounds = 1000;
  const Ring& r = c.socket->rings[ring];
  bytes_.clear();
  uint64_t low = first_unread(r, far), end = low;
  for (int round = 0; round < kRounds; ++round) {
    uint64_t tail = r.tail.load(std::memory_order_acquire);
    if (tail - low <= kRing && tail > end) {
      if (!copy_ring(*c.socket, ring, end, tail, bytes_)) return false;
      end = tail;
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    uint64_t now = first_unread(r, far);
    if (now == low && tail == end) break;
    if (now < low || now >= end) {
      bytes_.clear();
      end = now;
    } else {
      bytes_.erase(0, now - low);
    }
    low = now;
  }
  *offset = low;
  return end != low;
}

uint32_t StreamSource::subscribe(std::span<const TemplateView> wanted) {
  shared::Header& header = self_.segment.header();
  uint32_t mark = header.net_generation.load();
  uint32_t ticket = shared::watch_ticket(self_.segment);
  header.net_armed.store(ticket);  // also when only streams are wanted: a new connection brings new ones
  shared::full_fence();
  for (const Connection& c : connections())
    for (uint32_t ring = 0; ring < 2; ++ring)
      if (may_be_stream(wanted, c.text, ring)) c.socket->ends[1 - ring].net_armed.store(ticket);
  shared::full_fence();
  return mark;
}

void StreamSource::wait(uint32_t mark, Deadline deadline) {
  auto since = deadline.time_since_epoch();
  auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
  timespec until{static_cast<time_t>(seconds.count()), static_cast<long>((since - seconds).count())};
  syscall(SYS_futex, &self_.segment.header().net_generation, FUTEX_WAIT_BITSET, mark,
          deadline == kForever ? nullptr : &until, nullptr, FUTEX_BITSET_MATCH_ANY);
}

}  // namespace godwit
