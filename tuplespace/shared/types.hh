// Widths, limits and names shared by everything that lives in the segment.
//
// Code in this folder is injected into foreign programs: no exceptions, no allocation, no global
// constructors, nothing from libstdc++ at run time. It reports failure as a negative errno.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace godwit::shared {

inline constexpr uint64_t kPage = 4096;
inline constexpr uint64_t kChunk = 64 << 10;          // unit of allocation; bytes
inline constexpr uint32_t kMembers = 1024;            // processes and pods of one host
inline constexpr uint32_t kSlots = 256;               // threads of one pod
inline constexpr uint32_t kHostSlots = 1024;          // of the host itself: of all programs that use spaces without a pod
inline constexpr uint64_t kRing = 128 << 10;          // capacity of one direction; bytes, power of two
inline constexpr uint32_t kWatches = 4;               // epoll sets that may watch one end
inline constexpr uint32_t kListeners = 4096;          // virtual listeners that one host knows

/// Offset into the segment, bytes; 0 is the header and so means "none".
using Offset = uint64_t;

/// Keeps the compiler from moving stores across: all that crash safety between processes of one
/// host needs, because a dead process's stores are all visible.
inline void compiler_barrier() { asm volatile("" ::: "memory"); }
/// As a fence of seq_cst, which g++ makes a locked operation on (%rsp): there lies what a small function has just pushed
/// and is about to pop, and the wait for that costs 5 ns.
inline void full_fence() { asm volatile("lock orl $0, -64(%%rsp)" ::: "memory", "cc"); }
inline void cpu_relax() { __builtin_ia32_pause(); }

}  // namespace godwit::shared
