// The virtual listeners that this host knows: its own, entered by listen(2), and those of other hosts, entered by
// the node as it applies the community's directory. Changed under kDirectory; looked up without a lock.
#include <netinet/in.h>

#include "tuplespace/shared/socket.hh"

namespace godwit::shared {
namespace {

Address address_of(const Listener& l) {
  Address a{};
  a.family = l.family;
  a.port = l.port;
  memcpy(a.bytes, l.address, 16);
  return a;
}

bool same_host(const Address& a, const Address& b) {
  return a.family == b.family && memcmp(a.bytes, b.bytes, a.family == AF_INET ? 4 : 16) == 0;
}

// The community is one machine as far as ports go: wildcard and loopback are its one common address.
bool common(const Address& a) { return is_wildcard(a) || is_loopback(a); }
// [::] and 0.0.0.0 may have a listener each, as servers with IPV6_V6ONLY do; who binds [::] for both families
// looks for the other one himself.
bool conflict(const Address& a, const Address& b) {
  return a.port == b.port && a.family == b.family && ((common(a) && common(b)) || same_host(a, b));
}

// The entries that are or were in use.
struct Known {
  Header& header;
  Listener* begin() { return header.listeners; }
  Listener* end() { return header.listeners + header.listener_limit.load(); }
};

bool port_taken(Header& header, const Address& address) {
  for (Listener& l : Known{header})
    if (l.state.load() != ListenerState::kFree && conflict(address_of(l), address)) return true;
  return false;
}

// A free entry, kept below `listener_limit` where one is, so that look-ups stay short.
Listener* free_entry(Header& header) {
  for (uint32_t i = 0; i < kListeners; ++i) {
    if (header.listeners[i].state.load() != ListenerState::kFree) continue;
    if (i >= header.listener_limit.load()) header.listener_limit.store(i + 1);
    return &header.listeners[i];
  }
  return nullptr;
}

void fill(Listener& l, const Address& address, uint64_t pod, uint64_t id, Offset socket, ListenerState state) {
  l.port = address.port;
  l.family = address.family;
  memcpy(l.address, address.bytes, 16);
  l.id = id;
  l.pod = pod;
  l.socket = socket;
  l.state.store(state, std::memory_order_release);  // the one store that makes it visible
}

}  // namespace

int add_listener(Thread& self, Socket& socket, Address* address, uint64_t pod, uint64_t* id) {
  lock(self, kDirectory);
  Header& header = self.segment.header();
  int result = 0;
  uint64_t number = header.next_listener.fetch_add(1);
  if (address->port == 0) {
    constexpr uint32_t kFirst = 32768, kCount = 28232;  // ip_local_port_range of a fresh Linux
    uint32_t tries = 0;
    do address->port = static_cast<uint16_t>(kFirst + (number + tries) % kCount);
    while (port_taken(header, *address) && ++tries < kCount);
  }
  Listener* entry = free_entry(header);
  if (port_taken(header, *address)) result = -EADDRINUSE;
  if (!result && !entry) result = -ENOSPC;
  if (!result) {
    *id = static_cast<uint64_t>(header.host_number) << 40 | number;
    socket.listener = *id;
    fill(*entry, *address, pod, *id, socket.offset, ListenerState::kLocal);
  }
  unlock(self, kDirectory);
  return result;
}

int enter_listener(Thread& self, const Address& address, uint64_t pod, uint64_t id, Offset socket) {
  lock(self, kDirectory);
  Header& header = self.segment.header();
  Listener* entry = nullptr;
  for (Listener& l : Known{header})
    if (l.state.load() != ListenerState::kFree && l.id == id) entry = &l;
  if (!entry) entry = free_entry(header);
  if (entry) fill(*entry, address, pod, id, socket, socket ? ListenerState::kLocal : ListenerState::kRemote);
  unlock(self, kDirectory);
  return entry ? 0 : -ENOSPC;
}

void remove_listener(Thread& self, uint64_t id) {
  lock(self, kDirectory);
  for (Listener& l : Known{self.segment.header()})
    if (l.state.load() != ListenerState::kFree && l.id == id) l.state.store(ListenerState::kFree);
  unlock(self, kDirectory);
}

bool find_listener(const Segment& segment, const Address& address, Listener* out) {
  for (bool other_family : {false, true}) {
    for (Listener& l : Known{segment.header()}) {
      if (l.state.load(std::memory_order_acquire) == ListenerState::kFree || l.port != address.port) continue;
      if ((l.family != address.family) != other_family) continue;
      Address bound = address_of(l);
      if (!same_host(bound, address) && !(common(bound) && common(address))) continue;
      memcpy(static_cast<void*>(out), &l, sizeof *out);
      if (l.state.load(std::memory_order_acquire) != ListenerState::kFree && l.id == out->id) return true;
    }
  }
  return false;
}

uint64_t next_connection(const Segment& segment) {
  Header& header = segment.header();
  return static_cast<uint64_t>(header.host_number) << 40 | header.next_connection.fetch_add(1);
}

uint16_t client_port(uint64_t connection) {
  return static_cast<uint16_t>(32768 + (connection & ((1ull << 40) - 1)) % 28232);
}

}  // namespace godwit::shared
