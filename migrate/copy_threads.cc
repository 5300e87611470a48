// The copy's threads, and its completion.
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

#include "migrate/copy.hh"
#include "migrate/proc.hh"
#include "tuplespace/fault.hh"

namespace godwit::migrate {

namespace {
constexpr int kRseq = 334;
constexpr uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
}  // namespace

// ---------------------------------------------------------------- making and ending threads

Result<void> Copy::add_thread(const ThreadImage& thread) {
  const uint64_t space = batch_->free_space();
  struct {
    clone_args arguments;
    int tid;
  } there{};
  there.arguments.flags = kThreadFlags;
  there.arguments.stack = space + 0x6000;
  there.arguments.stack_size = 0x1000;
  there.arguments.set_tid = space + offsetof(decltype(there), tid);
  there.arguments.set_tid_size = 1;
  there.tid = static_cast<int>(thread.tid);
  if (auto r = memory_.write(space, &there, sizeof there); !r) return r;
  (void)remote_.take_born();
  auto tid = remote_.must("make a thread", SYS_clone3, space, sizeof there.arguments);
  if (!tid) return tid.error();
  auto born = remote_.take_born();
  if (*tid != thread.tid || born.size() != 1) return make_error(std::errc::io_error, "thread has another number");
  threads_.emplace_back(thread.tid, born[0]);
  auto stop = wait_for_stop(born[0], Clock::now() + std::chrono::seconds(10));
  if (!stop) return stop.error();
  if (auto r = block_signals(born[0]); !r) return r;
  return furnish_thread(thread, born[0]);
}

Result<void> Copy::furnish_thread(const ThreadImage& thread, pid_t outer) {
  Remote own(outer, remote_.syscall_address(), remote_.base());
  Remote& remote = outer == pid_ ? remote_ : own;
  Batch batch(remote, scratch_);
  batch.must("set_tid_address", SYS_set_tid_address, thread.clear_tid);
  batch.must("set_robust_list", SYS_set_robust_list, thread.robust_list, thread.robust_list ? thread.robust_size : 24);
  if (thread.rseq) batch.must("rseq", kRseq, thread.rseq, thread.rseq_size, 0, thread.rseq_signature);
  stack_t stack{};
  stack.ss_sp = reinterpret_cast<void*>(thread.stack_pointer);
  stack.ss_size = thread.stack_size;
  if (!thread.stack_size) stack.ss_flags = SS_DISABLE;
  batch.must("sigaltstack", SYS_sigaltstack, batch.data(&stack, sizeof stack), 0);
  batch.add(SYS_prctl, PR_SET_NAME, batch.text(thread.name));
  if (auto r = batch.run(); !r) return r;
  if (thread.nice) ::setpriority(PRIO_PROCESS, static_cast<id_t>(outer), thread.nice);
  return {};
}

Result<void> Copy::build_threads() {
  for (const ThreadImage& thread : image_.threads) {
    auto done = thread.tid == image_.pid ? furnish_thread(thread, pid_) : add_thread(thread);
    if (!done) return done;
  }
  return {};
}

// The thread ended on the source: quietly, nothing may be written to memory that it has given up.
Result<void> Copy::remove_thread(uint32_t tid) {
  auto it = std::find_if(threads_.begin(), threads_.end(), [&](auto& t) { return t.first == tid; });
  if (it == threads_.end() || it->second == pid_) return make_error(std::errc::bad_message, "thread to end");
  // The kernel writes to its rseq area on the way to each call, and that may be unmapped already.
  auto image = std::find_if(image_.threads.begin(), image_.threads.end(), [&](auto& t) { return t.tid == tid; });
  uint64_t area = image == image_.threads.end() ? 0 : image->rseq & ~(kPage - 1), patched = 0;
  if (area) {
    auto mapped = remote_.call(SYS_mmap, area, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, ~0ull, 0);
    if (!mapped) return mapped.error();
    if (*mapped == static_cast<long>(area)) patched = area;
  }
  Remote remote(it->second, remote_.syscall_address(), remote_.base());
  if (auto r = remote.must("set_tid_address", SYS_set_tid_address, 0); !r) return r.error();
  if (auto r = remote.must("set_robust_list", SYS_set_robust_list, 0, 24); !r) return r.error();
  (void)remote.call(SYS_exit, 0);  // has no answer
  threads_.erase(it);
  if (!patched) return {};
  auto unmapped = remote_.must("unmap", SYS_munmap, patched, kPage);
  return unmapped ? Result<void>() : unmapped.error();
}

Result<void> Copy::change_threads(const Final& final) {
  auto lives = [&](uint32_t tid) {
    return std::any_of(final.threads.begin(), final.threads.end(), [&](auto& t) { return t.tid == tid; });
  };
  std::vector<uint32_t> gone;
  for (auto& [tid, outer] : threads_)
    if (!lives(tid)) gone.push_back(tid);
  for (uint32_t tid : gone)
    if (auto r = remove_thread(tid); !r) return r;
  for (const ThreadImage& thread : final.new_threads)
    if (auto r = add_thread(thread); !r) return r;
  return {};
}

std::vector<pid_t> Copy::outer_tids() const {
  std::vector<pid_t> all;
  for (auto& [tid, outer] : threads_) all.push_back(outer);
  return all;
}

Result<void> Copy::hold() { return enter_group_stop(pid_, outer_tids(), Clock::now() + std::chrono::seconds(10)); }

// ---------------------------------------------------------------- credentials

namespace {
std::array<uint64_t, 3> capabilities(pid_t pid) {
  std::string status = read_text(proc_path(pid, "status"));
  auto set = [&](const char* label) { return number_after(status, label, 16).value_or(0); };
  return {set("CapPrm:"), set("CapEff:"), set("CapInh:")};
}
struct CapabilityHeader {
  uint32_t version = 0x20080522;
  int32_t pid = 0;
};
struct CapabilityData {
  uint32_t effective, permitted, inheritable;
};
}  // namespace

bool Copy::credentials_differ() const {
  const Credentials& c = image_.credentials;
  std::string status = read_text(proc_path(pid_, "status"));
  auto same_ids = [&](const char* label, const std::array<uint32_t, 4>& ids) {
    std::string line(line_after(status, label));
    unsigned a, b, x, d;
    return std::sscanf(line.c_str(), "%u %u %u %u", &a, &b, &x, &d) == 4 && a == ids[0] && b == ids[1] && x == ids[2] && d == ids[3];
  };
  auto have = capabilities(pid_);
  return !same_ids("Uid:", c.uid) || !same_ids("Gid:", c.gid) || have[0] != c.permitted || have[1] != c.effective ||
         have[2] != c.inheritable || number_after(status, "NoNewPrivs:").value_or(0) != c.no_new_privileges;
}

// Per thread, as the kernel has it. Capabilities that this host does not give are not asked for.
Result<void> Copy::take_credentials(Remote& remote) {
  const Credentials& c = image_.credentials;
  Batch batch(remote, scratch_);
  auto have = capabilities(pid_);
  std::string status = read_text(proc_path(pid_, "status"));
  uint64_t uid_here = number_after(status, "Uid:").value_or(0);
  if (uid_here == 0 && (c.uid != std::array<uint32_t, 4>{} || c.gid != std::array<uint32_t, 4>{})) {
    batch.must("keep capabilities", SYS_prctl, PR_SET_KEEPCAPS, 1);
    batch.must("supplementary groups", SYS_setgroups, image_.groups.size(),
               batch.data(image_.groups.data(), image_.groups.size() * sizeof(uint32_t)));
    batch.must("group", SYS_setresgid, c.gid[0], c.gid[1], c.gid[2]);
    batch.must("user", SYS_setresuid, c.uid[0], c.uid[1], c.uid[2]);
    batch.add(SYS_prctl, PR_SET_KEEPCAPS, 0);
  }
  CapabilityHeader header;
  CapabilityData data[2];
  for (int half = 0; half < 2; ++half) {
    auto word = [&](uint64_t set, uint64_t limit) { return static_cast<uint32_t>((set & limit) >> (32 * half)); };
    data[half] = {word(c.effective, have[0]), word(c.permitted, have[0]), word(c.inheritable, have[0] | have[2])};
  }
  batch.must("capabilities", SYS_capset, batch.data(&header, sizeof header), batch.data(data, sizeof data));
  if (c.no_new_privileges) batch.add(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (c.dumpable <= 1) batch.add(SYS_prctl, PR_SET_DUMPABLE, c.dumpable);
  return batch.run();
}

// ---------------------------------------------------------------- completion

Result<void> Copy::send_pending(const Final& final) {
  auto outer = [&](uint32_t tid) {
    for (auto& [t, o] : threads_)
      if (t == tid) return o;
    return pid_;
  };
  user_regs_struct base = remote_.base();
  base.rsp = batch_->stack_top();
  for (const ThreadState& t : final.threads)
    if (auto r = requeue(outer(t.tid), remote_.syscall_address(), base, image_.pid, t.tid, t.pending, false); !r) return r;
  return requeue(pid_, remote_.syscall_address(), base, image_.pid, image_.pid, final.pending, true);
}

Result<void> Copy::arm_timers(const Final& final) {
  for (uint64_t which = 0; which < final.timers.size(); ++which) {
    const IntervalTimer& t = final.timers[which];
    if (!t.first_us) continue;
    itimerval setting{{t.interval_us / 1'000'000, t.interval_us % 1'000'000}, {t.first_us / 1'000'000, t.first_us % 1'000'000}};
    if (auto r = memory_.write(batch_->free_space(), &setting, sizeof setting); !r) return r;
    if (auto r = remote_.must("set a timer", SYS_setitimer, which, batch_->free_space(), 0); !r) return r.error();
  }
  return {};
}

// What the building has left in the process: descriptors out of its sight, the scratch mapping.
Result<void> Copy::clear_traces() {
  for (auto& [inode, ends] : pipes_)
    for (int end : {ends.first, ends.second})
      if (auto r = remote_.must("close", SYS_close, static_cast<uint64_t>(end)); !r) return r.error();
  pipes_.clear();
  for (int fd : {control_there_, segment_there_})
    if (fd >= 0)
      if (auto r = remote_.must("close", SYS_close, static_cast<uint64_t>(fd)); !r) return r.error();
  auto unmapped = remote_.must("unmap", SYS_munmap, scratch_, Batch::kScratchSize);
  return unmapped ? Result<void>() : unmapped.error();
}

// After an injected call a thread stands at the trap that ended it. Should we die there, the kernel would deliver that
// SIGTRAP when the group goes on: so it goes back to a stop that is an event, without a step of the program.
Result<void> Copy::return_to_group_stop(pid_t outer) {
  siginfo_t info{};
  bool at_event = request(PTRACE_GETSIGINFO, outer, 0, &info) != 0 || info.si_code >> 8 == PTRACE_EVENT_STOP;
  if (at_event) return {};
  if (request(PTRACE_INTERRUPT, outer, 0, nullptr) || request(PTRACE_CONT, outer, 0, nullptr))
    return errno_error("return a thread of the copy to its stop");
  int status = 0;
  while (::waitpid(outer, &status, __WALL) < 0)
    if (errno != EINTR) return errno_error("wait for a thread of the copy");
  if (!WIFSTOPPED(status) || status >> 16 != PTRACE_EVENT_STOP)
    return make_error(std::errc::state_not_recoverable, "a thread of the copy does not return to its stop");
  return {};
}

Result<void> Copy::finish(const Final& final) {
  if (final.pieces_changed)
    if (auto r = change_pieces(final.pieces); !r) return r;
  if (auto r = change_descriptors(final); !r) return r;
  if (auto r = change_threads(final); !r) return r;
  if (final.brk != image_.layout.brk)
    if (auto r = set_memory_layout(final.brk, false); !r) return r;
  if (auto r = send_pending(final); !r) return r;
  if (auto r = arm_timers(final); !r) return r;
  for (int i = 0; i < 16; ++i) {
    const ResourceLimit& l = image_.limits[static_cast<size_t>(i)];
    rlimit limit{l.current, l.maximum}, here{};
    if (::prlimit(pid_, static_cast<__rlimit_resource>(i), nullptr, &here)) continue;
    if (here.rlim_cur == limit.rlim_cur && here.rlim_max == limit.rlim_max) continue;
    ::prlimit(pid_, static_cast<__rlimit_resource>(i), &limit, nullptr);
  }
  if (credentials_differ()) {
    for (auto& [tid, outer] : threads_) {
      if (outer == pid_) continue;
      Remote own(outer, remote_.syscall_address(), remote_.base());
      if (auto r = take_credentials(own); !r) return r;
    }
    if (auto r = take_credentials(remote_); !r) return r;
  }
  if (auto r = clear_traces(); !r) return r;
  if (auto r = tell_control(); !r) return r;
  GODWIT_FAULT_POINT("move.target.before_registers");
  if (final.threads.size() != threads_.size()) return make_error(std::errc::bad_message, "number of threads");
  for (auto& [tid, outer] : threads_)
    if (auto r = return_to_group_stop(outer); !r) return r;
  for (const ThreadState& state : final.threads) {
    auto it = std::find_if(threads_.begin(), threads_.end(), [&](auto& t) { return t.first == state.tid; });
    if (it == threads_.end()) return make_error(std::errc::bad_message, "thread " + std::to_string(state.tid));
    if (auto r = write_state(it->second, state); !r) return r;
  }
  // From here on the copy is worth as much as the original: our death must leave it stopped, not dead.
  for (auto& [tid, outer] : threads_)
    if (request(PTRACE_SETOPTIONS, outer, 0, nullptr)) return errno_error("let go of the copy");
  complete_ = true;
  return {};
}

void Copy::resume() {
  continue_and_detach(pid_, outer_tids());
  threads_.clear();
  pid_ = 0;
}

void Copy::leave() {
  for (pid_t t : outer_tids()) request(PTRACE_DETACH, t, 0, nullptr);
  threads_.clear();
  pid_ = 0;
}

void Copy::kill() {
  if (!pid_) return;
  ::kill(pid_, SIGKILL);
  auto all = outer_tids();
  for (size_t i = all.size(); i-- > 0;) {
    int status;
    while (::waitpid(all[i], &status, __WALL) == all[i] && !WIFEXITED(status) && !WIFSIGNALED(status)) {
    }
  }
  threads_.clear();
  pid_ = 0;
}

}  // namespace godwit::migrate
