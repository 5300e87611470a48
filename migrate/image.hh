// The description of a program that moves: everything but the contents of its memory.
//
// `Image` is what a survey of the running program finds; the target builds a whole, stopped copy from
// it. `Final` is what can only be known once the program is frozen; the target completes the copy with
// it. Both are versioned and checked by decode_*, since the bytes come from another host: numbers are
// in range, lists are sorted, so that code behind decode needs no checks of its own for those.
#pragma once
#include <signal.h>
#include <sys/user.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/result.hh"
#include "wrapper/control.hh"

namespace godwit::migrate {

inline constexpr uint32_t kImageVersion = 1;
inline constexpr uint64_t kPage = 4096;
inline constexpr uint64_t kAddressLimit = 0x7ffffffff000;  // first address that is not a user's
inline constexpr uint32_t kMaxThreads = 32768;
inline constexpr uint32_t kMaxDescriptor = 1 << 20;

struct Extent {
  uint64_t start;   // page aligned
  uint64_t length;  // bytes, multiple of the page size, > 0
};

// The states of rt_sigaction(2), as the kernel has them.
struct SignalAction {
  uint64_t handler, flags, restorer, mask;
  uint64_t signal;  // 1..64
};

// What a thread has besides registers; changes rarely.
struct ThreadImage {
  uint32_t tid = 0;  // in the pod's namespace
  int32_t nice = 0;
  uint64_t clear_tid = 0;
  uint64_t robust_list = 0, robust_size = 0;
  uint64_t rseq = 0;
  uint32_t rseq_size = 0, rseq_signature = 0;
  uint64_t stack_pointer = 0, stack_size = 0;  // alternate signal stack; size 0: none
  std::string name;
};

// What a frozen thread goes on with.
struct ThreadState {
  uint32_t tid = 0;
  user_regs_struct registers{};
  std::string xstate;  // NT_X86_XSTATE without its trailing zeros
  uint64_t mask = 0;
  std::vector<siginfo_t> pending;  // sent to this thread alone
};

struct Mapping {
  enum Flag : uint32_t {
    kShared = 1, kAnonymous = 2, kStack = 4, kHuge = 8, kNoHuge = 16,
    kNoReserve = 32, kDontFork = 64, kWipeOnFork = 128, kLocked = 256,
  };
  uint64_t start = 0, end = 0;
  uint64_t offset = 0;      // of a file
  uint32_t protection = 0;  // PROT_*
  uint32_t flags = 0;
  uint64_t file_size = 0;    // of a mapped file: both hosts must have the same
  uint64_t fingerprint = 0;  // of its first page
  std::string path;          // absolute, unless kAnonymous

  bool shared() const { return flags & kShared; }
  bool anonymous() const { return flags & kAnonymous; }
};

// A change of the address space after the survey.
struct MappingChange {
  enum Kind : uint32_t { kUnmap = 1, kMap = 2, kProtect = 3 };
  uint32_t kind = 0;
  Mapping mapping;  // kUnmap: range only; kProtect: range and protection
};

struct EpollItem {
  int32_t descriptor;
  uint32_t events;
  uint64_t data;
};

struct Descriptor {
  enum Kind : uint32_t {
    kFile = 1, kPipe = 2, kEventFd = 3, kEpoll = 4, kTimerFd = 5, kSignalFd = 6,
    kPlaceholder = 7,  // of the wrapper; `control` says what stands behind it
    kOutside = 8,      // leads out of the pod (terminal, pipe to the supervisor): the target's host replaces it
  };
  uint32_t number = 0;
  uint32_t kind = 0;
  uint32_t flags = 0;      // of open(2), with O_CLOEXEC
  int32_t same_as = -1;    // shares the open file description with this lower number
  uint32_t control = 0;    // word of Control::descriptors
  uint32_t clock = 0;      // kTimerFd
  uint64_t position = 0;   // kFile
  uint64_t inode = 0;      // tells one pipe from another
  uint64_t value = 0;      // kEventFd: count; kSignalFd: mask; kTimerFd: expirations not read
  uint64_t option = 0;     // kEventFd: 1 semaphore; kTimerFd: flags of timerfd_settime; kPipe: capacity
  int64_t first_ns = 0;    // kTimerFd: to the next expiration, 0 disarmed
  int64_t interval_ns = 0;
  std::string link;        // target of /proc/PID/fd/N
  std::string bytes;       // kPipe: what is unread, at the entry of a reading end
  std::vector<EpollItem> items;
};

struct IntervalTimer {
  int64_t first_us = 0, interval_us = 0;  // first 0: disarmed
};

// prctl(2), PR_SET_MM_MAP.
struct MemoryLayout {
  uint64_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack;
  uint64_t arg_start, arg_end, env_start, env_end;
};

// What the processor can do; the target's must be able to do all of it, with the same layout of xstate.
struct Processor {
  std::array<uint32_t, 10> features;        // CPUID words
  uint64_t xstate_components;               // XCR0
  std::array<uint32_t, 64> xstate_offsets;  // of each component; 0: not there
};

struct Credentials {
  std::array<uint32_t, 4> uid, gid;  // real, effective, saved, file system; in the pod's user namespace
  uint64_t permitted, effective, inheritable, ambient;
  uint32_t no_new_privileges;
  uint32_t dumpable;
};

struct ResourceLimit {
  uint64_t current, maximum;
};

struct Image {
  uint32_t pid = 0;      // in the pod's namespace
  uint32_t session = 0;  // 0: not of the pod
  uint32_t group = 0;
  uint32_t umask = 0;
  uint32_t personality = 0;
  uint32_t subreaper = 0;
  MemoryLayout layout{};
  Processor processor{};
  Credentials credentials{};
  uint64_t vdso_start = 0, vdso_end = 0;  // vvar, vvar_vclock and vdso together
  uint64_t vdso_text = 0;                 // where [vdso] begins
  uint64_t vdso_fingerprint = 0;
  uint64_t proxy_vdso = 0;  // where our portable stand-in is mapped; 0: none
  uint64_t control_address = 0;
  uint64_t segment_address = 0, segment_length = 0;
  std::array<ResourceLimit, 16> limits{};
  std::vector<uint32_t> groups;  // supplementary
  std::string executable, directory, auxv;
  std::vector<SignalAction> actions;   // those that are not the default
  std::vector<Mapping> mappings;       // sorted, disjoint
  std::vector<ThreadImage> threads;    // the first is the leader
  std::vector<Descriptor> descriptors; // sorted by number
  std::vector<ControlPiece> pieces;    // as in Control, by index
};

struct Final {
  std::vector<ThreadState> threads;       // every thread
  std::vector<ThreadImage> new_threads;   // not in the image
  std::vector<siginfo_t> pending;         // sent to the process
  std::array<IntervalTimer, 3> timers{};  // ITIMER_REAL, _VIRTUAL, _PROF
  uint64_t brk = 0;
  std::vector<uint32_t> closed;           // descriptors of the image that are gone
  std::vector<Descriptor> descriptors;    // new or changed ones
  uint32_t pieces_changed = 0;
  std::vector<ControlPiece> pieces;       // all of them, if changed
  std::string extra;                      // the caller's, opaque
};

std::string encode(const Image& image);
std::string encode(const Final& final);
Result<Image> decode_image(std::string_view bytes);
Result<Final> decode_final(std::string_view bytes);

}  // namespace godwit::migrate
