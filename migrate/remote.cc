// Injection by PTRACE_SINGLESTEP and by a table of calls; memory by process_vm_readv and /proc/PID/mem.
#include "migrate/remote.hh"

#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

#include "migrate/proc.hh"
#include "migrate/threads.hh"

namespace godwit::migrate {

// ---------------------------------------------------------------- memory

namespace {
using Transfer = ssize_t (*)(pid_t, const iovec*, unsigned long, const iovec*, unsigned long, unsigned long);

// As many ranges as one call takes; true when all bytes went over.
bool transfer(pid_t pid, Transfer how, std::span<const Extent> ranges, char* buffer) {
  iovec remote[256];
  while (!ranges.empty()) {
    size_t count = std::min<size_t>(ranges.size(), 256), bytes = 0;
    for (size_t i = 0; i < count; ++i) {
      remote[i] = {reinterpret_cast<void*>(ranges[i].start), ranges[i].length};
      bytes += ranges[i].length;
    }
    iovec local{buffer, bytes};
    if (how(pid, &local, 1, remote, count, 0) != static_cast<ssize_t>(bytes)) return false;
    buffer += bytes;
    ranges = ranges.subspan(count);
  }
  return true;
}
}  // namespace

Result<void> Memory::slowly(std::span<const Extent> ranges, char* buffer, bool writing) const {
  UniqueFd file(::open(proc_path(pid_, "mem").c_str(), (writing ? O_RDWR : O_RDONLY) | O_CLOEXEC));
  if (!file.valid()) return errno_error("open memory of process " + std::to_string(pid_));
  for (const Extent& range : ranges) {
    for (uint64_t done = 0; done < range.length;) {
      size_t left = range.length - done;
      off_t at = static_cast<off_t>(range.start + done);
      ssize_t n = writing ? ::pwrite(file.get(), buffer, left, at) : ::pread(file.get(), buffer, left, at);
      if (n <= 0)
        return make_error(std::errc::bad_address, std::string(writing ? "write" : "read") + " memory of process " +
                                                      std::to_string(pid_) + " at " + std::to_string(at));
      done += static_cast<uint64_t>(n);
      buffer += n;
    }
  }
  return {};
}

Result<void> Memory::gather(std::span<const Extent> ranges, char* to) const {
  if (transfer(pid_, ::process_vm_readv, ranges, to)) return {};
  return slowly(ranges, to, false);
}
Result<void> Memory::scatter(std::span<const Extent> ranges, const char* from) const {
  if (transfer(pid_, ::process_vm_writev, ranges, const_cast<char*>(from))) return {};
  return slowly(ranges, const_cast<char*>(from), true);
}
Result<void> Memory::read(uint64_t address, void* to, size_t size) const {
  Extent range{address, size};
  return size ? gather({&range, 1}, static_cast<char*>(to)) : Result<void>();
}
Result<void> Memory::write(uint64_t address, const void* from, size_t size) const {
  Extent range{address, size};
  return size ? scatter({&range, 1}, static_cast<const char*>(from)) : Result<void>();
}

// ---------------------------------------------------------------- one call

Result<void> block_signals(pid_t thread) {
  uint64_t all = ~0ull;
  if (request(PTRACE_SETSIGMASK, thread, 8, &all)) return errno_error("block signals");
  return {};
}

namespace {
constexpr uint64_t kTrapFlag = 0x100;

user_regs_struct prepared(const user_regs_struct& base, uint64_t ip) {
  user_regs_struct r = base;
  r.rip = ip;
  r.orig_rax = ~0ull;  // not in a system call: the kernel must not restart anything
  r.eflags &= ~kTrapFlag;
  return r;
}
}  // namespace

// Waits for the trap that ends an injected stretch; a group stop or the birth of a thread on the way is
// not the end of it.
Result<void> Remote::wait_for_trap() {
  for (;;) {
    auto stop = wait_for_stop(thread_, Clock::now() + std::chrono::seconds(10));
    if (!stop) return stop.error();
    if (stop->kind == Stop::kSignal && stop->signal == SIGTRAP) return {};
    if (stop->kind == Stop::kEvent) {
      unsigned long born = 0;
      request(PTRACE_GETEVENTMSG, thread_, 0, &born);
      born_.push_back(static_cast<pid_t>(born));
    } else if (stop->kind == Stop::kSignal || stop->kind == Stop::kGone) {
      return make_error(std::errc::interrupted, "injected call struck by signal " + std::to_string(stop->signal));
    }
    if (request(PTRACE_SINGLESTEP, thread_, 0, nullptr)) return errno_error("step");
  }
}

Result<long> Remote::call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  user_regs_struct r = prepared(base_, syscall_);
  r.rax = static_cast<uint64_t>(number);
  r.rdi = a, r.rsi = b, r.rdx = c, r.r10 = d, r.r8 = e, r.r9 = f;
  if (request(PTRACE_SETREGS, thread_, 0, &r)) return errno_error("set registers of " + std::to_string(thread_));
  if (request(PTRACE_SINGLESTEP, thread_, 0, nullptr)) return errno_error("step " + std::to_string(thread_));
  if (auto trapped = wait_for_trap(); !trapped) return trapped.error();
  if (request(PTRACE_GETREGS, thread_, 0, &r)) return errno_error("registers after a call");
  return static_cast<long>(r.rax);
}

Result<uint64_t> Remote::must(const char* what, long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                              uint64_t e, uint64_t f) {
  auto answer = call(number, a, b, c, d, e, f);
  if (!answer) return answer.error();
  if (*answer < 0 && *answer > -4096)
    return Error{std::error_code(static_cast<int>(-*answer), std::generic_category()), what};
  return static_cast<uint64_t>(*answer);
}

// ---------------------------------------------------------------- many calls

// r12 points to the table of {number, 6 arguments, answer}, r13 counts its entries. Never linked into a
// flow of ours: copied.
asm(R"(
    .pushsection .rodata
    godwit_batch_code:
    1:  mov   (%r12), %rax
        mov  8(%r12), %rdi
        mov 16(%r12), %rsi
        mov 24(%r12), %rdx
        mov 32(%r12), %r10
        mov 40(%r12), %r8
        mov 48(%r12), %r9
        syscall
        mov %rax, 56(%r12)
        add $64, %r12
        dec %r13
        jnz 1b
        int3
    godwit_batch_end:
    .popsection
)");
extern "C" {
extern const char godwit_batch_code[] __attribute__((visibility("hidden")));
extern const char godwit_batch_end[] __attribute__((visibility("hidden")));
}

namespace {
// Parts of the scratch mapping.
constexpr uint64_t kCode = 0x10000, kTable = 0x20000, kTableSize = 0x80000, kData = 0xa0000, kDataSize = 0x80000;
}  // namespace

Result<void> Batch::install_code() {
  return memory_.write(scratch_ + kCode, godwit_batch_code,
                       static_cast<size_t>(godwit_batch_end - godwit_batch_code));
}

size_t Batch::add(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  calls_.push_back({static_cast<uint64_t>(number), {a, b, c, d, e, f}, 0});
  return calls_.size() - 1;
}
size_t Batch::must(std::string what, long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f) {
  needed_.emplace_back(calls_.size(), std::move(what));
  return add(number, a, b, c, d, e, f);
}

uint64_t Batch::data(const void* bytes, size_t size) {
  data_.resize((data_.size() + 15) & ~size_t{15});
  uint64_t address = scratch_ + kData + data_.size();
  data_.append(static_cast<const char*>(bytes), size);
  return address;
}

void Batch::clear() {
  calls_.clear();
  needed_.clear();
  data_.clear();
}

Result<void> Batch::run_part(size_t first, size_t count) {
  uint64_t table = scratch_ + kTable;
  if (auto r = memory_.write(table, &calls_[first], count * sizeof(Call)); !r) return r;
  user_regs_struct r = prepared(remote_->base_, scratch_ + kCode);
  r.r12 = table;
  r.r13 = count;
  r.rsp = stack_top();
  pid_t thread = remote_->thread_;
  if (request(PTRACE_SETREGS, thread, 0, &r)) return errno_error("set registers for a batch");
  for (;;) {
    if (request(PTRACE_CONT, thread, 0, nullptr)) return errno_error("run a batch");
    auto stop = wait_for_stop(thread, Clock::now() + std::chrono::seconds(60));
    if (!stop) return stop.error();
    if (stop->kind == Stop::kSignal && stop->signal == SIGTRAP) break;
    if (stop->kind == Stop::kGroup || stop->kind == Stop::kTrap) continue;
    return make_error(std::errc::interrupted, "batch struck by signal " + std::to_string(stop->signal));
  }
  return memory_.read(table, &calls_[first], count * sizeof(Call));
}

Result<void> Batch::run() {
  if (calls_.empty()) return {};
  if (data_.size() > kDataSize) return make_error(std::errc::argument_list_too_long, "batch of calls");
  if (auto r = memory_.write(scratch_ + kData, data_.data(), data_.size()); !r) return r;
  constexpr size_t kPart = kTableSize / sizeof(Call);
  for (size_t first = 0; first < calls_.size(); first += kPart)
    if (auto r = run_part(first, std::min(kPart, calls_.size() - first)); !r) return r;
  for (auto& [index, what] : needed_)
    if (long answer = calls_[index].answer; answer < 0 && answer > -4096)
      return Error{std::error_code(static_cast<int>(-answer), std::generic_category()), what};
  return {};
}

Result<uint64_t> find_syscall(pid_t pid, uint64_t start, uint64_t end) {
  std::string code(end - start, '\0');
  if (auto r = Memory(pid).read(start, code.data(), code.size()); !r) return r.error();
  size_t at = code.find("\x0f\x05");
  if (at == code.npos) return make_error(std::errc::not_supported, "no syscall instruction in the vdso");
  return start + at;
}

}  // namespace godwit::migrate
