// Which descriptor numbers are virtual sockets, and the pieces behind them.
//
// What must stay true: a piece is mapped while anything refers to it: every descriptor of this process is one
// reference, and so is every call that uses it (a Handle). Who drops the last one ends the socket and unmaps.
// So a close in one thread never pulls the mapping from under a read in another.
#pragma once
#include "tuplespace/shared/bell.hh"
#include "tuplespace/shared/socket.hh"
#include "wrapper/state.hh"

namespace godwit::wrapper {

/// What this process alone knows of a piece. Not needed by an engine: a copy of memory carries it.
struct PieceState {
  std::atomic<uint32_t> references{0};
  uint32_t side = 0;         // which end, for sockets
  int32_t spin_credit = 0;   // see sleep.hh
  uint32_t shared = 0;       // a set whose descriptors exist in other processes too
  uint64_t last_probe = 0;   // cycle counter at the last look for the kernel's HUP
};
extern PieceState piece_states[kControlPieces];

inline uint32_t descriptor_of(int fd) {
  if (static_cast<uint32_t>(fd) >= kControlDescriptors || !awake()) return 0;
  return __atomic_load_n(&control.descriptors[fd], __ATOMIC_ACQUIRE);
}
inline bool is_set(uint32_t word) { return word && descriptor_role(word) == Role::kSet; }
inline bool is_socket(uint32_t word) { return word && descriptor_role(word) != Role::kSet; }

/// One use of a piece.
class Handle {
 public:
  /// Empty if fd is not ours (or was closed just now).
  explicit Handle(int fd);
  ~Handle() { release(); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  explicit operator bool() const { return held_; }
  bool socket_role() const { return descriptor_role(word_) != Role::kSet; }
  shared::Socket& socket() const { return *reinterpret_cast<shared::Socket*>(control.pieces[piece_].address); }
  shared::Set& set() const { return *reinterpret_cast<shared::Set*>(control.pieces[piece_].address); }
  uint32_t side() const { return state().side; }
  shared::End& end() const { return socket().ends[side()]; }
  shared::Ring& incoming() const { return socket().rings[1 - side()]; }
  shared::Ring& outgoing() const { return socket().rings[side()]; }
  PieceState& state() const { return piece_states[piece_]; }
  uint32_t piece() const { return piece_; }
  uint32_t word() const { return word_; }
  int fd() const { return fd_; }
  bool connected() const { return socket().state.load(std::memory_order_acquire) == shared::SocketState::kConnected; }
  bool nonblocking() const { return end().flags.load(std::memory_order_relaxed) & shared::kNonblock; }
  void release();

 private:
  int fd_;
  uint32_t word_ = 0;
  uint32_t piece_ = 0;
  bool held_ = false;
};

/// Maps the run at `offset` of the segment as a piece with one reference. returns its index, or -ENOMEM.
int attach_piece(shared::Offset offset, uint64_t length, PieceKind kind, uint32_t side);
/// fd: the placeholder, if it is still open.
void drop_piece(uint32_t piece, int fd = -1);

/// From now on `fd` stands for the piece; takes over the caller's reference.
void set_descriptor(int fd, uint32_t piece, Role role);
/// fd is another descriptor of the same description as `word`.
void copy_descriptor(int fd, uint32_t word);
/// fd is about to be closed or replaced: it stands for nothing any more.
void forget_descriptor(int fd);

/// Makes out from the names of its placeholder what an inherited or received descriptor is.
void adopt_descriptor(int fd);
/// The same for all that were open when this program began.
void adopt_descriptors();

/// Descriptors are about to exist in another process too: closing ours says nothing about the end.
void share_descriptors();
/// In a child after fork: only its one thread uses pieces.
void recount_references();

/// The lowest descriptor number that stands for this set in this process; -1.
int descriptor_of_set(shared::Offset set);

}  // namespace godwit::wrapper
