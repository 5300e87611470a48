// A virtual stream socket: one piece of the segment, made by socket(2), that becomes a listener or a connection.
//
// A connection has two ends (0: the client's, 1: the server's) and two rings (ring i is written by end i, so
// ring 0 is "c>s"). Positions are stream offsets. The writer copies, then stores tail; the reader copies,
// then stores head; each store is the whole commit, so a kill leaves either all of an operation or nothing.
// Bytes in [head, tail) are the tuples ("stream", CONNECTION, DIRECTION, head, bytes).
//
// An end's user is a program of a pod, or the node when that pod runs on another host or is a bridge. Both
// follow the same rules, so neither knows which the other is.
#pragma once
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "tuplespace/shared/thread.hh"

namespace godwit::shared {

/// An IPv4 or IPv6 address and port as programs see it; v4 in the first four bytes, network order.
struct Address {
  uint16_t family;  // AF_INET, AF_INET6; 0: none
  uint16_t port;    // host byte order
  uint32_t scope;
  uint8_t bytes[16];
};

struct Ring {
  alignas(64) std::atomic<uint64_t> tail;  // written by the writer alone
  uint64_t reserved;                       // bytes of the ring whose pages exist; writer alone
  std::atomic<uint32_t> finished;          // the writer shut down: nothing comes after tail
  alignas(64) std::atomic<uint64_t> head;  // written by the reader alone
  std::atomic<uint32_t> refused;           // the reader shut down its receiving side
  alignas(64) std::atomic<uint32_t> writer_waits;  // who found it full set this, then looked again
  // Between hosts; written by the node alone.
  std::atomic<uint64_t> sent;  // ring whose reader is elsewhere: bytes handed to the carrier
  uint64_t consumed;  // ring whose writer is elsewhere: head as last reported to its host
};

enum EndFlag : uint32_t {
  kNonblock = 1,    // O_NONBLOCK of the description
  kClosed = 2,      // the last descriptor of this end is closed, by its own word
  kGone = 4,        // the kernel's HUP: the last descriptor is gone, also by SIGKILL
  kReset = 8,       // the other end was closed with bytes unread, or aborted: ECONNRESET, then EOF
  kShared = 16,     // descriptors may exist outside this process (fork, SCM_RIGHTS)
  kAbort = 32,      // SO_LINGER with zero: close sends RST
  kConnecting = 64, // non-blocking connect whose outcome has not been told
};

/// A set that watches an end: set's offset | descriptor number (a set lies on a chunk, so the low 16 bits are free).
using Watch = uint64_t;
inline Offset watch_set(Watch w) { return w & ~uint64_t{0xffff}; }
inline uint32_t watch_index(Watch w) { return static_cast<uint32_t>(w & 0xffff); }

struct End {
  // Sleeping and ringing (bell.hh).
  alignas(64) std::atomic<uint64_t> sleeper;      // 0 free; generation << 32 | slot << 1 | asleep
  std::atomic<uint32_t> generation;               // futex word of further sleepers
  std::atomic<uint32_t> futex_sleepers;
  std::atomic<uint32_t> edge_sleepers;            // temporary epoll sets of further pollers
  std::atomic<uint32_t> bells;                    // bytes rung and not yet eaten
  std::atomic<uint32_t> watched;                  // how many of watches[] are in use
  std::atomic<uint32_t> flags;                    // EndFlag
  std::atomic<uint32_t> net_armed;                // ticket of a watcher of the ring that this end reads; 0: none
  alignas(64) std::atomic<uint32_t> read_lock;    // end_lock.hh
  std::atomic<uint32_t> write_lock;
  std::atomic<int32_t> error;                     // SO_ERROR
  uint32_t epoch;                                 // of the pod below, as known on this host
  uint64_t pod;                                   // whose end this is (directory id); 0: nobody's yet
  Address address;                                // this end's own
  std::atomic<Watch> watches[kWatches];
  // Options that programs set and read back.
  uint32_t options;                               // bits of wrapper/options
  uint32_t send_buffer, receive_buffer;           // bytes, as getsockopt answers
  uint64_t receive_timeout, send_timeout;         // ns; 0: none
  int32_t linger;                                 // seconds; -1: off
  int32_t owner;                                  // F_SETOWN
};

enum class SocketState : uint32_t {
  kFree = 0,
  kFresh = 1,      // socket(), perhaps bind()
  kListening = 2,
  kConnected = 3,  // from connect() on, also before accept()
};

struct alignas(kPage) Socket {
  std::atomic<SocketState> state;
  std::atomic<uint32_t> generation;  // grows each time the piece is used for a new socket
  std::atomic<uint32_t> accepted;    // end 1 has a user; until then ("connect", ...) is in the space
  uint32_t family;                   // AF_INET or AF_INET6, as given to socket()
  uint64_t id;                       // of the connection: host number << 40 | counter
  Offset offset;                     // of this piece in this host's segment
  uint64_t listener;                 // id of the listener that it is, or that it connects to
  std::atomic<uint32_t> backlog;
  std::atomic<uint32_t> connecting;  // to a program outside, and undecided: the client's end is ready for nothing
  Ring rings[2];
  End ends[2];
};
static_assert(sizeof(Socket) == kPage);

inline constexpr uint64_t kSocketLength = kChunk + 2 * kRing;  // header page, gap, two rings

inline char* ring_data(Socket& socket, uint32_t ring) {
  return reinterpret_cast<char*>(&socket) + kChunk + ring * kRing;
}

/// Room that makes an end writable: as TCP does, not at the first free byte.
inline constexpr uint64_t kWritable = kRing / 4;

inline uint64_t readable(const Ring& ring) {
  return ring.tail.load(std::memory_order_acquire) - ring.head.load(std::memory_order_relaxed);
}
inline uint64_t writable(const Ring& ring) {
  return kRing - (ring.tail.load(std::memory_order_relaxed) - ring.head.load(std::memory_order_acquire));
}

/// Where the stream's bytes [at, at + n) lie in the ring: one stretch, or two where they go round. n <= kRing.
struct RingSpan {
  iovec parts[2];
  int count;  // of parts that are not empty, at least 1
};
inline RingSpan ring_span(Socket& socket, uint32_t ring, uint64_t at, uint64_t n) {
  uint64_t place = at & (kRing - 1), first = n < kRing - place ? n : kRing - place;
  char* data = ring_data(socket, ring);
  return RingSpan{{{data + place, first}, {data, n - first}}, n > first ? 2 : 1};
}

/// Copies between memory and the ring at stream position `at`; n <= kRing.
void copy_in(Socket& socket, uint32_t ring, uint64_t at, const void* from, uint64_t n);
void copy_out(Socket& socket, uint32_t ring, uint64_t at, void* to, uint64_t n);

/// Puts up to what fits of iov into ring `side`. Holds ends[side].write_lock.
/// returns the bytes put, 0 if it is full, -ENOBUFS if /dev/shm is. Does not ring.
ssize_t put(Socket& socket, uint32_t side, const iovec* iov, int count);

/// Takes up to what there is of ring 1 - side into iov. Holds ends[side].read_lock.
/// returns the bytes taken, 0 if it is empty. Does not ring. peek: leaves them there.
ssize_t take(Socket& socket, uint32_t side, const iovec* iov, int count, bool peek);

/// Allocates and initialises a fresh socket of `pod`. It is the caller's intent until publish(), which
/// follows when a descriptor stands for it. returns 0 or -ENOSPC.
int allocate_socket(Thread& self, uint32_t family, uint64_t pod, Offset* out);

/// EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR (and RDNORM, WRNORM) of an end of a connection.
/// Sets writer_waits when it is not writable, so that the next look is rung.
uint32_t readiness(Socket& socket, uint32_t side);

/// The listener id at which the node takes connections to programs outside the community: ends[1].address says
/// where to. It clears `connecting`, with ends[0].error set if it failed, and rings.
inline constexpr uint64_t kEgress = 0;

/// Says that end `side` is closed by its owner: FIN, or RST when bytes for it are unread or `abort`.
/// returns true when both ends are closed, so that the caller frees the piece.
bool close_end(Socket& socket, uint32_t side, bool abort);

/// The kernel's HUP from the other end: true the first time it is noted. side: the end that noticed.
bool note_gone(Socket& socket, uint32_t side);

// --- names -------------------------------------------------------------------------------------

/// Abstract AF_UNIX addresses. They return the length for bind(2) and connect(2).
struct Name {
  char text[108];
  uint32_t length;  // of text, with the leading zero byte
};
Name listener_name(const Segment& segment, uint64_t listener);
Name connection_name(const Segment& segment, uint64_t connection, Offset offset);
Name node_name(const Segment& segment);

/// Parses what connection_name made. returns false for anything else.
bool parse_connection_name(const Segment& segment, const char* text, uint32_t length, uint64_t* connection,
                           Offset* offset);
/// The same for listener_name.
bool parse_listener_name(const Segment& segment, const char* text, uint32_t length, uint64_t* listener);

inline constexpr uint32_t kConnectionText = 32;
/// CONNECTION of tuples and of `ps --connections`: host number in hex, a dash, the counter in hex.
void connection_text(uint64_t connection, char (&text)[kConnectionText]);

// --- directory of listeners ------------------------------------------------------------------------

/// Enters `socket` as a virtual listener at `address` (port 0: picks one and stores it there).
/// returns 0 with *id; -EADDRINUSE; -ENOSPC: the table is full.
int add_listener(Thread& self, Socket& socket, Address* address, uint64_t pod, uint64_t* id);
/// Enters a listener that has its id already; replaces an entry of the same id. For the node.
/// socket: its piece if its pod runs on this host, else 0. returns 0 or -ENOSPC.
int enter_listener(Thread& self, const Address& address, uint64_t pod, uint64_t id, Offset socket);
void remove_listener(Thread& self, uint64_t id);

/// The listener that a connect to `address` reaches: same port, and bound to that address, to the wildcard or
/// to loopback. Lock-free; fills *out. returns false if there is none.
bool find_listener(const Segment& segment, const Address& address, Listener* out);

inline bool is_loopback(const Address& a) {
  static constexpr uint8_t kV6[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (a.family == 2) return a.bytes[0] == 127;
  return memcmp(a.bytes, kV6, 16) == 0 || (memcmp(a.bytes, kMapped, 12) == 0 && a.bytes[12] == 127);
}
inline bool is_wildcard(const Address& a) {
  static constexpr uint8_t kZero[16] = {};
  return memcmp(a.bytes, kZero, a.family == 2 ? 4 : 16) == 0;
}

/// A fresh connection id, and a port for the client's end that no other connection made here has lately had.
uint64_t next_connection(const Segment& segment);
uint16_t client_port(uint64_t connection);

}  // namespace godwit::shared
