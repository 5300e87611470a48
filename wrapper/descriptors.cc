#include "wrapper/descriptors.hh"

#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>

#include "tuplespace/shared/allocator.hh"

namespace godwit::wrapper {

constinit PieceState piece_states[kControlPieces];

namespace {

using shared::End;
using shared::Section;
using shared::Socket;
using shared::SocketState;
using shared::Thread;

constinit std::atomic<uint32_t> piece_hint{1};

void raise_count(uint32_t* count, uint32_t at_least) {
  uint32_t seen = __atomic_load_n(count, __ATOMIC_RELAXED);
  while (seen < at_least &&
         !__atomic_compare_exchange_n(count, &seen, at_least, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
  }
}

// An entry that nobody has, claimed by its first reference. Entry 0 is the area's.
int claim_entry() {
  uint32_t start = piece_hint.load(std::memory_order_relaxed);
  for (uint32_t n = 0; n < kControlPieces; ++n) {
    uint32_t i = start + n < kControlPieces ? start + n : start + n - kControlPieces;
    uint32_t none = 0;
    if (i == 0 || control.pieces[i].address) continue;
    if (!piece_states[i].references.compare_exchange_strong(none, 1)) continue;
    if (control.pieces[i].address) {  // still being dropped
      piece_states[i].references.store(0);
      continue;
    }
    piece_hint.store(i, std::memory_order_relaxed);
    return static_cast<int>(i);
  }
  return -1;
}

void remove_watches(Thread& self, Socket& socket, End& end) {
  if (!end.watched.load()) return;
  Section section(self);
  for (std::atomic<shared::Watch>& slot : end.watches) {
    shared::Watch w = slot.load();
    if (!w) continue;
    shared::Set& set = *self.segment.at<shared::Set>(shared::watch_set(w));
    shared::WatchEntry& entry = set.entries[shared::watch_index(w)];
    if (entry.generation == socket.generation.load()) entry.word = 0;
    shared::remove_watch(end, w);
  }
}

// A close after a FIN says nothing new; else the other side hears it by a bell, and not only by the kernel's HUP, for
// which it cannot tell whether it is news.
bool close_connection(Thread& self, Socket& socket, uint32_t side, int fd) {
  End& other = socket.ends[1 - side];
  bool finished = socket.rings[side].finished.load(), reset = other.flags.load() & shared::kReset;
  bool both = shared::close_end(socket, side, socket.ends[side].linger == 0);
  bool news = finished != (socket.rings[side].finished.load() != 0) ||
              reset != ((other.flags.load() & shared::kReset) != 0);
  if (news && !both && fd >= 0) shared::notify(self, socket, 1 - side, ~0u, fd);
  return both;
}

// The last reference of this process is gone. fd: still open, or -1.
// returns true if the run is nobody's any more.
bool end_socket(Thread& self, Socket& socket, uint32_t side, int fd) {
  End& end = socket.ends[side];
  if (end.flags.load() & shared::kShared) return false;  // the kernel's HUP will tell when the last copy goes
  SocketState state = socket.state.load();
  remove_watches(self, socket, end);
  if (state == SocketState::kConnected) return close_connection(self, socket, side, fd);
  if (socket.listener) shared::remove_listener(self, socket.listener);
  return true;
}

void free_run(Thread& self, shared::Offset offset) {
  shared::intend(self, offset);
  shared::free_intent(self);
}

void drop_last(uint32_t i, int fd) {
  ControlPiece piece = control.pieces[i];
  Thread* t = self();
  bool free = false;
  shared::Offset offset = 0;
  if (piece.kind == PieceKind::kSocket && t) {
    Socket& socket = *reinterpret_cast<Socket*>(piece.address);
    offset = socket.offset;
    free = end_socket(*t, socket, piece_states[i].side, fd);
  } else if (piece.kind == PieceKind::kSet && t) {
    shared::Set& set = *reinterpret_cast<shared::Set*>(piece.address);
    offset = set.offset;
    free = !piece_states[i].shared;
  }
  munmap(reinterpret_cast<void*>(piece.address), piece.length);
  control.pieces[i].kind = PieceKind::kFree;
  __atomic_store_n(&control.pieces[i].address, 0, __ATOMIC_RELEASE);
  if (free) free_run(*t, offset);
}

bool pin(uint32_t i) {
  std::atomic<uint32_t>& references = piece_states[i].references;
  uint32_t n = references.load(std::memory_order_relaxed);
  while (n && !references.compare_exchange_weak(n, n + 1, std::memory_order_acquire)) {
  }
  return n != 0;
}

bool unix_name(int fd, bool peer, sockaddr_un& name, uint32_t& length) {
  socklen_t n = sizeof name;
  int r = peer ? libc().getpeername(fd, reinterpret_cast<sockaddr*>(&name), &n)
               : libc().getsockname(fd, reinterpret_cast<sockaddr*>(&name), &n);
  if (r != 0 || n <= offsetof(sockaddr_un, sun_path) || name.sun_family != AF_UNIX) return false;
  length = n - static_cast<uint32_t>(offsetof(sockaddr_un, sun_path));
  return true;
}

void adopt(int fd, shared::Offset offset, uint32_t side) {
  int piece = attach_piece(offset, shared::kSocketLength, PieceKind::kSocket, side);
  if (piece < 0) return;
  Socket& socket = *reinterpret_cast<Socket*>(control.pieces[piece].address);
  socket.ends[side].flags.fetch_or(shared::kShared);
  set_descriptor(fd, static_cast<uint32_t>(piece), side ? Role::kAccepted : Role::kSocket);
}

bool adopt_listener(Thread& self, int fd, uint64_t id) {
  shared::Offset offset = 0;
  {
    Section section(self);
    shared::Header& header = self.segment.header();
    for (uint32_t i = 0; i < header.listener_limit.load(); ++i) {
      shared::Listener& l = header.listeners[i];
      if (l.state.load() != shared::ListenerState::kFree && l.id == id) offset = l.socket;
    }
  }
  if (offset) adopt(fd, offset, 0);
  return offset != 0;
}

bool valid_connection(Thread& self, shared::Offset offset, uint64_t id) {
  Section section(self);
  if (offset == 0 || offset + shared::kSocketLength > self.segment.header().size) return false;
  Socket& socket = *self.segment.at<Socket>(offset);
  return socket.state.load() == SocketState::kConnected && socket.id == id;
}

struct Entry64 {  // getdents64(2)
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[];
};

int number(const char* text) {
  int n = 0;
  for (; *text; ++text) {
    if (*text < '0' || *text > '9') return -1;
    n = n * 10 + (*text - '0');
  }
  return n;
}

}  // namespace

Handle::Handle(int fd) : fd_(fd) {
  for (;;) {
    word_ = descriptor_of(fd);
    if (!word_) return;
    piece_ = descriptor_piece(word_);
    if (!pin(piece_)) continue;  // closed since; look again
    held_ = true;
    if (__atomic_load_n(&control.descriptors[fd], __ATOMIC_RELAXED) == word_) return;
    release();
  }
}

void Handle::release() {
  if (!held_) return;
  held_ = false;
  drop_piece(piece_);
}

void drop_piece(uint32_t piece, int fd) {
  if (piece_states[piece].references.fetch_sub(1, std::memory_order_acq_rel) == 1) drop_last(piece, fd);
}

int attach_piece(shared::Offset offset, uint64_t length, PieceKind kind, uint32_t side) {
  Thread* t = self();
  int i = t ? claim_entry() : -1;
  if (i < 0) return -ENOMEM;
  void* address;
  {
    Section section(*t);
    address = shared::map_piece(t->segment, offset, length);
  }
  if (!address) {
    piece_states[i].references.store(0);
    return -ENOMEM;
  }
  piece_states[i].side = side;
  piece_states[i].spin_credit = 2;
  piece_states[i].last_probe = 0;
  piece_states[i].shared = 0;
  ControlPiece& piece = control.pieces[i];
  piece.length = length;
  piece.offset = offset;
  piece.kind = kind;
  __atomic_store_n(&piece.address, reinterpret_cast<uint64_t>(address), __ATOMIC_RELEASE);
  raise_count(&control.piece_count, static_cast<uint32_t>(i) + 1);
  return i;
}

void set_descriptor(int fd, uint32_t piece, Role role) {
  raise_count(&control.descriptor_count, static_cast<uint32_t>(fd) + 1);
  __atomic_store_n(&control.descriptors[fd], descriptor_word(piece, role), __ATOMIC_RELEASE);
}

void copy_descriptor(int fd, uint32_t word) {
  uint32_t piece = descriptor_piece(word);
  if (static_cast<uint32_t>(fd) >= kControlDescriptors || !pin(piece)) return;
  set_descriptor(fd, piece, descriptor_role(word));
}

void forget_descriptor(int fd) {
  if (static_cast<uint32_t>(fd) >= kControlDescriptors) return;
  uint32_t word = __atomic_exchange_n(&control.descriptors[fd], 0, __ATOMIC_ACQ_REL);
  if (word) drop_piece(descriptor_piece(word), fd);
}

void adopt_descriptor(int fd) {
  sockaddr_un name;
  uint32_t length;
  uint64_t id;
  shared::Offset offset;
  if (static_cast<uint32_t>(fd) >= kControlDescriptors || control.descriptors[fd]) return;
  bool own = unix_name(fd, false, name, length);
  if (own) {
    if (shared::parse_connection_name(segment, name.sun_path, length, &id, &offset)) {
      Thread* t = self();
      if (t && valid_connection(*t, offset, id)) adopt(fd, offset, 0);
      return;
    }
    if (!shared::parse_listener_name(segment, name.sun_path, length, &id)) return;
  }
  // An accepted socket has its listener's name; the peer's is the connection's.
  uint64_t connection;
  if (!own) return;
  Thread* t = self();
  if (!t) return;
  if (unix_name(fd, true, name, length) &&
      shared::parse_connection_name(segment, name.sun_path, length, &connection, &offset)) {
    if (valid_connection(*t, offset, connection)) adopt(fd, offset, 1);
    return;
  }
  adopt_listener(*t, fd, id);
}

void adopt_descriptors() {
  int folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  alignas(Entry64) char buffer[4096];
  long n;
  while ((n = syscall(SYS_getdents64, folder, buffer, sizeof buffer)) > 0) {
    for (long at = 0; at < n;) {
      Entry64* entry = reinterpret_cast<Entry64*>(buffer + at);
      int fd = number(entry->name);
      if (fd >= 0 && fd != folder) adopt_descriptor(fd);
      at += entry->length;
    }
  }
  libc().close(folder);
}

void share_descriptors() {
  uint32_t count = __atomic_load_n(&control.piece_count, __ATOMIC_ACQUIRE);
  for (uint32_t i = 1; i < count; ++i) {
    if (!pin(i)) continue;
    ControlPiece& piece = control.pieces[i];
    if (piece.kind == PieceKind::kSet) piece_states[i].shared = 1;
    if (piece.address && piece.kind == PieceKind::kSocket)
      reinterpret_cast<Socket*>(piece.address)->ends[piece_states[i].side].flags.fetch_or(shared::kShared);
    drop_piece(i);
  }
}

void recount_references() {
  uint32_t pieces = control.piece_count, count = control.descriptor_count;
  for (uint32_t i = 0; i < pieces; ++i) piece_states[i].references.store(0);
  for (uint32_t fd = 0; fd < count; ++fd)
    if (uint32_t word = control.descriptors[fd]) piece_states[descriptor_piece(word)].references.fetch_add(1);
  for (uint32_t i = 1; i < pieces; ++i) {
    ControlPiece& piece = control.pieces[i];
    if (!piece.address || piece_states[i].references.load()) continue;
    munmap(reinterpret_cast<void*>(piece.address), piece.length);  // a call of another thread of the parent had it
    piece = ControlPiece{};
  }
}

int descriptor_of_set(shared::Offset set) {
  for (uint32_t fd = 0; fd < control.descriptor_count; ++fd) {
    uint32_t word = control.descriptors[fd];
    if (is_set(word) && control.pieces[descriptor_piece(word)].offset == set) return static_cast<int>(fd);
  }
  return -1;
}

}  // namespace godwit::wrapper
