// All that migrate/ knows of wrapper/: one versioned struct in the memory of a wrapped process.
//
// The process writes it; its address stands in the segment's process table. An engine reads it
// with process_vm_readv and checks magic, version and size first. Two fields go the other way:
// the engine raises `park` on a frozen process, and fills `pieces[i].offset` in on the target.
//
// What must stay true:
// - A thread has `inside` > 0 from before it resolves an address of the whole-segment mapping until
//   it no longer uses it. It never waits inside. When inside falls to 0 while park is set, the thread
//   waits (futex on park) until it is 0 again.
// - Everything else in the segment is reached through pieces, which keep their address over a move;
//   a thread may be stopped in the middle of using one.
// - Entries are published by the count or the word that makes them visible, stored last.
#pragma once
#include <cstdint>

namespace godwit {

inline constexpr uint64_t kControlMagic = 0x31304c5443575447;  // "GTWCTL01"
inline constexpr uint32_t kControlVersion = 1;
inline constexpr uint32_t kControlThreads = 1024;
inline constexpr uint32_t kControlPieces = 65536;
inline constexpr uint32_t kControlDescriptors = 65536;  // numbers above are never virtual

struct alignas(64) ControlThread {
  uint32_t tid;           // in the pod's namespace; 0: free entry. Stored last
  uint32_t inside;        // depth of sections of the whole-segment mapping
  uint64_t clear_tid;     // PR_GET_TID_ADDRESS, for set_tid_address on the target
  uint64_t stack_pointer; // alternate signal stack as set through the wrapper; 0: none
  uint64_t stack_size;
  uint32_t slot;          // index of the thread's slot in the pod's area
  uint32_t unused[5];
};

enum class PieceKind : uint32_t {
  kFree = 0,
  kArea = 1,    // the pod's slots: alive words, undo logs
  kSocket = 2,  // a socket: listener, or connection with its two rings
  kSet = 3,     // readiness of an epoll set
};

// A part of the segment file mapped by itself, MAP_SHARED, at an address that a move keeps.
struct ControlPiece {
  uint64_t address;  // in this process; 0: entry is free
  uint64_t length;   // bytes, multiple of the page size
  uint64_t offset;   // in the segment file of this host
  PieceKind kind;
  uint32_t unused;
};

// What stands behind a descriptor number: 0 nothing of ours, else (piece index + 1) << 2 | role.
enum class Role : uint32_t {
  kSocket = 0,    // made by socket(): fresh, listening, or the client's end (end 0) of a connection
  kAccepted = 1,  // made by accept(): the server's end (end 1)
  kSet = 2,       // an epoll set; its real epoll descriptor has the same number
};

struct Control {
  uint64_t magic;
  uint32_t version;
  uint32_t size;             // sizeof(Control)
  uint32_t park;             // raised by the engine; futex word
  uint32_t thread_count;     // entries of threads[] ever used
  uint32_t piece_count;      // entries of pieces[] ever used
  uint32_t descriptor_count; // entries of descriptors[] ever used
  uint64_t segment_address;  // where the whole segment is mapped
  uint64_t segment_length;   // length of that mapping; may reach beyond the end of the file
  uint32_t unmovable;        // 0, or the index of the first reason found (wrapper/unmovable.hh)
  uint32_t unused[13];
  ControlThread threads[kControlThreads];
  ControlPiece pieces[kControlPieces];
  uint32_t descriptors[kControlDescriptors];
};

inline constexpr uint32_t descriptor_word(uint32_t piece, Role role) {
  return (piece + 1) << 2 | static_cast<uint32_t>(role);
}
inline constexpr uint32_t descriptor_piece(uint32_t word) { return (word >> 2) - 1; }
inline constexpr Role descriptor_role(uint32_t word) { return static_cast<Role>(word & 3); }

}  // namespace godwit
