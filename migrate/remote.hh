// System calls made by a stopped thread of another process on our behalf, and access to its memory.
//
// Remote steps one call over a `syscall` instruction that the process has anyway (in its vdso): 10 us a
// call, works in any program. Batch runs a table of calls in one stop, by a few bytes of code in a
// scratch mapping: for the target, whose address space is ours to arrange.
//
// The thread's registers are lost: who injects into a living program puts them back. All signals must be
// blocked (block_signals) while calls are injected.
#pragma once
#include <sys/types.h>
#include <sys/user.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "migrate/image.hh"
#include "tuplespace/posix/unique_fd.hh"

namespace godwit::migrate {

// ---- memory
class Memory {
 public:
  Memory() = default;
  explicit Memory(pid_t pid) : pid_(pid) {}
  /// Both fail with errc::bad_address when a byte cannot be reached.
  Result<void> read(uint64_t address, void* to, size_t size) const;
  Result<void> write(uint64_t address, const void* from, size_t size) const;
  /// Many ranges at once; falls back to /proc/PID/mem where protection is in the way.
  Result<void> gather(std::span<const Extent> ranges, char* to) const;
  Result<void> scatter(std::span<const Extent> ranges, const char* from) const;
  template <class T>
  Result<T> get(uint64_t address) const {
    T value;
    if (auto r = read(address, &value, sizeof value); !r) return r.error();
    return value;
  }

 private:
  Result<void> slowly(std::span<const Extent> ranges, char* buffer, bool writing) const;
  pid_t pid_ = 0;
};

// ---- one call
class Remote {
 public:
  Remote() = default;
  /// thread  stopped by this (calling) thread's ptrace; syscall  address of a `syscall` instruction.
  Remote(pid_t thread, uint64_t syscall, const user_regs_struct& base)
      : thread_(thread), syscall_(syscall), base_(base) {}

  /// returns the kernel's answer, a negative errno for failure; error: the thread is gone or went astray.
  Result<long> call(long number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0,
                    uint64_t e = 0, uint64_t f = 0);
  /// As call, with the kernel's failures as errors named `what`.
  Result<uint64_t> must(const char* what, long number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0,
                        uint64_t d = 0, uint64_t e = 0, uint64_t f = 0);
  pid_t thread() const { return thread_; }
  uint64_t syscall_address() const { return syscall_; }
  void move_syscall(uint64_t address) { syscall_ = address; }
  const user_regs_struct& base() const { return base_; }
  /// Outer TIDs of the threads that calls have made since the last look.
  std::vector<pid_t> take_born() { return std::move(born_); }

 private:
  friend class Batch;
  Result<void> wait_for_trap();

  pid_t thread_ = 0;
  uint64_t syscall_ = 0;
  user_regs_struct base_{};
  std::vector<pid_t> born_;
};

// ---- many calls
class Batch {
 public:
  static constexpr uint64_t kScratchSize = 0x120000;

  /// scratch  kScratchSize bytes in the process, readable, writable and executable.
  Batch(Remote& remote, uint64_t scratch) : remote_(&remote), memory_(remote.thread()), scratch_(scratch) {}
  Result<void> install_code();

  size_t add(long number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0, uint64_t e = 0,
             uint64_t f = 0);
  /// Adds a call whose failure makes run() fail, named `what`.
  size_t must(std::string what, long number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0,
              uint64_t e = 0, uint64_t f = 0);
  /// Address that the bytes will have when the calls run.
  uint64_t data(const void* bytes, size_t size);
  uint64_t text(const std::string& s) { return data(s.c_str(), s.size() + 1); }
  Result<void> run();
  long answer(size_t index) const { return calls_[index].answer; }
  void clear();
  Remote& remote() { return *remote_; }
  /// A stretch of the scratch mapping that run() does not touch: 32 KiB.
  uint64_t free_space() const { return scratch_; }
  uint64_t stack_top() const { return scratch_ + 0xf000; }

 private:
  struct Call {
    uint64_t number, arguments[6];
    long answer;
  };
  Result<void> run_part(size_t first, size_t count);

  Remote* remote_;
  Memory memory_;
  uint64_t scratch_;
  std::vector<Call> calls_;
  std::vector<std::pair<size_t, std::string>> needed_;
  std::string data_;
};

/// Address of a `syscall` instruction in [start, end).
Result<uint64_t> find_syscall(pid_t pid, uint64_t start, uint64_t end);
/// The mask is replaced, not remembered: read it before.
Result<void> block_signals(pid_t thread);

}  // namespace godwit::migrate
