// Stops, registers, restart of system calls, pending signals.
//
// Facts of the kernel that this file relies on:
// - SIGSTOP before PTRACE_SEIZE: each thread reports PTRACE_EVENT_STOP with SIGSTOP; such a thread may be
//   resumed and stepped while SIGNAL_STOP_STOPPED stays in force, and whoever ends the tracing, also by
//   dying, throws it back into the group stop (__ptrace_unlink).
// - PTRACE_DETACH with signal 0 at a signal-delivery stop swallows the signal.
// - A call interrupted by a stop shows -512..-514 (made again with the same arguments) or -516 (goes on as
//   restart_syscall, 219, which another kernel cannot do); a few answer -EINTR (signal(7)).
#include "migrate/threads.hh"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "migrate/proc.hh"
#include "migrate/remote.hh"

namespace godwit::migrate {

// ---------------------------------------------------------------- waiting

namespace {

constexpr Deadline kNow = Deadline::min();

Stop classify(int status) {
  if (!WIFSTOPPED(status)) return {Stop::kGone};
  int signal = WSTOPSIG(status), event = status >> 16;
  if (event == PTRACE_EVENT_STOP) return {signal == SIGTRAP ? Stop::kTrap : Stop::kGroup, signal};
  if (event) return {Stop::kEvent, signal};
  if (signal == (SIGTRAP | 0x80)) return {Stop::kSyscall};
  return {Stop::kSignal, signal};
}

// Most stops come within microseconds: yield at first, then sleep for longer and longer.
void wait_a_little(int round) {
  if (round < 200) {
    ::sched_yield();
    return;
  }
  timespec pause{0, std::min(20'000 * (round - 199), 1'000'000)};
  ::nanosleep(&pause, nullptr);
}

}  // namespace

Result<Stop> wait_for_stop(pid_t thread, Deadline deadline) {
  for (int round = 0;; ++round) {
    int status = 0;
    pid_t who = ::waitpid(thread, &status, __WALL | WNOHANG);
    if (who == thread) return classify(status);
    if (who < 0 && errno == ECHILD) return Stop{Stop::kGone};
    if (who < 0 && errno != EINTR) return errno_error("wait for thread " + std::to_string(thread));
    if (deadline == kNow) return make_error(std::errc::timed_out, "not yet");
    if (round % 64 == 63 && Clock::now() > deadline)
      return make_error(std::errc::timed_out, "thread " + std::to_string(thread) + " does not stop");
    wait_a_little(round);
  }
}

// ---------------------------------------------------------------- one thread

namespace {

Result<void> look(Traced& t) {
  if (request(PTRACE_GETREGS, t.thread, 0, &t.registers) || request(PTRACE_GETSIGMASK, t.thread, 8, &t.mask))
    return errno_error("registers of thread " + std::to_string(t.thread));
  return {};
}

// A signal on its way to a thread that stops before its next instruction: taken now, sent again later.
void take_signal(Traced& t) {
  siginfo_t info{};
  if (request(PTRACE_GETSIGINFO, t.thread, 0, &info) == 0) t.taken.push_back(info);
}

}  // namespace

Result<Traced> pause_thread(pid_t thread, Deadline deadline) {
  Traced t;
  t.thread = thread;
  if (request(PTRACE_SEIZE, thread, 0, reinterpret_cast<void*>(PTRACE_O_TRACESYSGOOD)) ||
      request(PTRACE_INTERRUPT, thread, 0, nullptr))
    return errno_error("trace thread " + std::to_string(thread));
  for (;;) {
    auto stop = wait_for_stop(thread, deadline);
    if (!stop) return stop.error();
    if (stop->kind == Stop::kGone) return make_error(std::errc::no_such_process, "thread ended");
    if (stop->kind == Stop::kTrap || stop->kind == Stop::kGroup) break;
    if (stop->kind == Stop::kSignal) take_signal(t);
    request(PTRACE_CONT, thread, 0, nullptr);
  }
  if (auto r = look(t); !r) return r.error();
  return t;
}

Result<void> release_thread(Traced& t, uint64_t syscall_address) {
  if (!t.taken.empty()) {
    auto r = requeue(t.thread, syscall_address, t.registers, 0, t.tid, t.taken, false);
    t.taken.clear();
    t.changed = true;
    if (!r) return r;
  }
  if (spoilt_by_stop(t.registers)) {
    make_restartable(t.registers, 0, 0);
    t.changed = true;
  }
  if (t.changed) {
    if (request(PTRACE_SETREGS, t.thread, 0, &t.registers) || request(PTRACE_SETSIGMASK, t.thread, 8, &t.mask))
      return errno_error("put registers back");
    t.changed = false;
  }
  if (request(PTRACE_DETACH, t.thread, 0, nullptr)) return errno_error("detach");
  return {};
}

// ---------------------------------------------------------------- all threads

namespace {

// One look at a thread that shall enter group stop. True when it has. errors: no_such_process: it ended.
Result<bool> advance_to_group_stop(Traced& t, Deadline deadline) {
  auto stop = wait_for_stop(t.thread, deadline);
  if (!stop && stop.error().code == std::errc::timed_out) return false;
  if (!stop) return stop.error();
  long pass_on = 0;
  switch (stop->kind) {
    case Stop::kGroup:
      if (auto r = look(t); !r) return r.error();
      return true;
    case Stop::kGone: return make_error(std::errc::no_such_process, "thread ended");
    case Stop::kSignal:
      // Our SIGSTOP, which makes the group stop; or a signal of the program, which must be delivered: the
      // thread may get back to its code before it stops, and expect its handler to have run.
      pass_on = stop->signal;
      break;
    default: break;
  }
  if (request(PTRACE_CONT, t.thread, 0, reinterpret_cast<void*>(pass_on)) && errno != ESRCH)
    return errno_error("let a thread stop");
  return false;
}

// Any of them may be the one that gets the SIGSTOP and has to be let on with it before the others can stop:
// all are looked at in turn. Threads that have ended are taken out.
Result<void> wait_for_group_stop(std::vector<Traced>& threads, size_t first, Deadline deadline) {
  std::vector<bool> stopped(threads.size());
  for (int round = 0;; ++round) {
    bool all = true;
    for (size_t i = first; i < threads.size(); ++i) {
      if (stopped[i]) continue;
      auto done = advance_to_group_stop(threads[i], kNow);
      if (!done && done.error().code == std::errc::no_such_process) {
        threads.erase(threads.begin() + static_cast<long>(i));
        stopped.erase(stopped.begin() + static_cast<long>(i--));
        continue;
      }
      if (!done) return done.error();
      stopped[i] = *done;
      all &= *done;
    }
    if (all) return {};
    if (round % 64 == 63 && Clock::now() > deadline)
      return make_error(std::errc::timed_out, "the program does not stop");
    wait_a_little(round);
  }
}

bool known(const std::vector<Traced>& threads, pid_t thread) {
  return std::any_of(threads.begin(), threads.end(), [&](const Traced& t) { return t.thread == thread; });
}

}  // namespace

Result<void> stop_process(pid_t pid, std::vector<Traced>& threads, Deadline deadline) {
  if (::kill(pid, SIGSTOP)) return errno_error("stop process " + std::to_string(pid));
  const std::string directory = proc_path(pid, "task");
  for (;;) {
    size_t first = threads.size();
    for (pid_t thread : numeric_names(directory)) {
      if (known(threads, thread)) continue;
      if (request(PTRACE_SEIZE, thread, 0, reinterpret_cast<void*>(PTRACE_O_TRACESYSGOOD))) {
        if (errno == ESRCH) continue;  // it has ended
        return errno_error("trace thread " + std::to_string(thread));
      }
      threads.emplace_back().thread = thread;
    }
    if (threads.size() == first) break;  // a pass over all found none that is new
    if (auto r = wait_for_group_stop(threads, first, deadline); !r) return r;
  }
  if (threads.empty() || !known(threads, pid)) return make_error(std::errc::no_such_process, "the program has ended");
  std::sort(threads.begin(), threads.end(), [&](const Traced& a, const Traced& b) {
    return std::pair(a.thread != pid, a.thread) < std::pair(b.thread != pid, b.thread);
  });
  return {};
}

Result<void> enter_group_stop(pid_t pid, const std::vector<pid_t>& threads, Deadline deadline) {
  if (::kill(pid, SIGSTOP)) return errno_error("stop process " + std::to_string(pid));
  for (pid_t thread : threads) {  // the leader comes first and takes the signal; the others join on their way out
    std::vector<Traced> one(1);
    one[0].thread = thread;
    if (request(PTRACE_CONT, thread, 0, nullptr)) return errno_error("let a thread stop");
    if (auto r = wait_for_group_stop(one, 0, deadline); !r) return r;
    if (one.empty()) return make_error(std::errc::no_such_process, "a thread of the copy ended");
  }
  return {};
}

namespace {

// SIGCONT ends a group stop by being sent; what is left of it is a pending signal, which matters only to a
// program that handles it. The leader is led to its delivery, where detaching swallows it. With other
// signals pending, or SIGCONT blocked, that could run handlers under our eyes: then it is delivered.
void swallow_sigcont(pid_t leader) {
  std::string status = read_text(proc_path(leader, "status"));
  const uint64_t bit = 1ull << (SIGCONT - 1);
  auto set = [&](const char* label) { return number_after(status, label, 16).value_or(~0ull); };
  if (!(set("SigCgt:\t") & bit) || (set("SigBlk:\t") & bit)) return;
  if ((set("ShdPnd:\t") & ~bit) || set("SigPnd:\t")) return;
  if (request(PTRACE_CONT, leader, 0, nullptr)) return;
  for (int tries = 0; tries < 4; ++tries) {
    auto stop = wait_for_stop(leader, Clock::now() + std::chrono::milliseconds(5));
    if (!stop || stop->kind == Stop::kGone) break;
    if (stop->kind == Stop::kSignal && stop->signal == SIGCONT) return;
    long pass_on = stop->kind == Stop::kSignal ? stop->signal : 0;
    request(PTRACE_CONT, leader, 0, reinterpret_cast<void*>(pass_on));
  }
  // It runs already and nothing came: stop it again, so that it can be detached.
  request(PTRACE_INTERRUPT, leader, 0, nullptr);
  (void)wait_for_stop(leader, Clock::now() + std::chrono::seconds(1));
}

}  // namespace

void continue_and_detach(pid_t pid, const std::vector<pid_t>& threads) {
  ::kill(pid, SIGCONT);
  swallow_sigcont(pid);
  for (pid_t thread : threads) request(PTRACE_DETACH, thread, 0, nullptr);
}

// ---------------------------------------------------------------- states

Result<std::vector<siginfo_t>> read_pending(pid_t thread, bool shared) {
  std::vector<siginfo_t> all;
  for (;;) {
    siginfo_t part[32];
    __ptrace_peeksiginfo_args arguments{all.size(), static_cast<uint32_t>(shared ? PTRACE_PEEKSIGINFO_SHARED : 0), 32};
    long n = request(PTRACE_PEEKSIGINFO, thread, reinterpret_cast<uint64_t>(&arguments), part);
    if (n < 0) return errno_error("pending signals");
    all.insert(all.end(), part, part + n);
    if (n < 32) break;
  }
  // What a freeze and a thaw leave behind is not the program's.
  std::erase_if(all, [](const siginfo_t& s) { return s.si_signo == SIGSTOP; });
  return all;
}

namespace {
constexpr size_t kXstateLimit = 64 << 10;

Result<std::string> read_xstate(pid_t thread) {
  static thread_local std::string buffer(kXstateLimit, '\0');
  iovec area{buffer.data(), buffer.size()};
  if (request(PTRACE_GETREGSET, thread, NT_X86_XSTATE, &area)) return errno_error("extended registers");
  std::string_view whole(buffer.data(), area.iov_len);
  size_t last = whole.find_last_not_of('\0');
  return std::string(whole.substr(0, last == whole.npos ? 0 : last + 1));
}

Result<void> write_xstate(pid_t thread, const std::string& trimmed) {
  static thread_local std::string buffer(kXstateLimit, '\0');
  static thread_local size_t size = 0;  // of the whole area: the kernel takes no less
  if (size == 0) {
    iovec area{buffer.data(), buffer.size()};
    if (request(PTRACE_GETREGSET, thread, NT_X86_XSTATE, &area)) return errno_error("extended registers");
    size = area.iov_len;
  }
  if (trimmed.size() > size) return make_error(std::errc::not_supported, "extended registers that this processor lacks");
  std::memset(buffer.data(), 0, size);
  std::memcpy(buffer.data(), trimmed.data(), trimmed.size());
  iovec area{buffer.data(), size};
  if (request(PTRACE_SETREGSET, thread, NT_X86_XSTATE, &area)) return errno_error("set extended registers");
  return {};
}
}  // namespace

Result<ThreadState> read_state(const Traced& t, long number) {
  ThreadState state;
  state.tid = t.tid;
  state.registers = t.registers;
  state.mask = t.mask;
  make_restartable(state.registers, number, t.thread);
  auto xstate = read_xstate(t.thread);
  if (!xstate) return xstate.error();
  state.xstate = std::move(*xstate);
  auto pending = read_pending(t.thread, false);
  if (!pending) return pending.error();
  state.pending = std::move(*pending);
  state.pending.insert(state.pending.end(), t.taken.begin(), t.taken.end());
  return state;
}

Result<void> write_state(pid_t thread, const ThreadState& state) {
  if (auto r = write_xstate(thread, state.xstate); !r) return r;
  user_regs_struct registers = state.registers;
  uint64_t mask = state.mask;
  if (request(PTRACE_SETREGS, thread, 0, &registers)) return errno_error("set registers");
  if (request(PTRACE_SETSIGMASK, thread, 8, &mask)) return errno_error("set signal mask");
  return {};
}

Result<void> requeue(pid_t thread, uint64_t syscall_address, const user_regs_struct& base, uint32_t pid,
                     uint32_t tid, const std::vector<siginfo_t>& signals, bool shared) {
  if (signals.empty()) return {};
  if (auto r = block_signals(thread); !r) return r;
  Memory memory(thread);
  Remote remote(thread, syscall_address, base);
  const uint64_t scratch = (base.rsp - 128 - 256) & ~63ull;  // below the red zone
  char saved[sizeof(siginfo_t)];
  if (auto r = memory.read(scratch, saved, sizeof saved); !r) return r;
  if (pid == 0) {
    auto own = remote.must("getpid", SYS_getpid);
    if (!own) return own.error();
    pid = static_cast<uint32_t>(*own);
  }
  for (const siginfo_t& s : signals) {
    if (auto r = memory.write(scratch, &s, sizeof s); !r) return r;
    auto number = static_cast<uint64_t>(s.si_signo);
    auto sent = shared ? remote.must("requeue a signal", SYS_rt_sigqueueinfo, pid, number, scratch)
                       : remote.must("requeue a signal", SYS_rt_tgsigqueueinfo, pid, tid, number, scratch);
    if (!sent) return sent.error();
  }
  return memory.write(scratch, saved, sizeof saved);
}

// ---------------------------------------------------------------- restart of calls

namespace {

constexpr long kRestartSys = -512, kRestartNoIntr = -513, kRestartNoHand = -514, kRestartBlock = -516;
constexpr long kEpollPwait2 = 441;

bool in_call(const user_regs_struct& r) { return static_cast<long>(r.orig_rax) >= 0; }

bool answers_eintr_to_a_stop(long number) {
  switch (number) {
    case SYS_epoll_wait: case SYS_epoll_pwait: case kEpollPwait2: case SYS_rt_sigtimedwait:
    case SYS_io_getevents: case SYS_semtimedop: case SYS_semop: return true;
    default: return false;
  }
}

bool uses_restart_block(long number) {
  return number == SYS_nanosleep || number == SYS_clock_nanosleep || number == SYS_poll || number == SYS_futex;
}

// A thread stopped for a second time sits in restart_syscall and its registers have lost the number of the
// call; the code in front of the syscall instruction has it: mov $number, %eax.
long number_from_code(pid_t pid, uint64_t syscall_address) {
  unsigned char code[32];
  if (pid == 0 || !Memory(pid).read(syscall_address - sizeof code, code, sizeof code)) return 0;
  for (int at = sizeof code - 5; at >= 0; --at) {
    int32_t number;
    std::memcpy(&number, code + at + 1, sizeof number);
    if (code[at] == 0xb8 && uses_restart_block(number)) return number;
  }
  return 0;
}

// The kernel has stored the rest of a sleep where the program asked for it: sleep that long, not again all
// of it.
void sleep_for_the_rest(user_regs_struct& r) {
  if (r.rax == SYS_nanosleep && r.rsi) r.rdi = r.rsi;
  constexpr uint64_t kAbsolute = 1;
  if (r.rax == SYS_clock_nanosleep && r.r10 && !(r.rsi & kAbsolute)) r.rdx = r.r10;
}

void make_again(user_regs_struct& r, long number) {
  r.rax = static_cast<uint64_t>(number);
  r.rip -= 2;
  r.orig_rax = ~0ull;
}

}  // namespace

long interrupted_call(const user_regs_struct& r) {
  return in_call(r) && static_cast<long>(r.rax) == kRestartBlock && r.orig_rax != SYS_restart_syscall
             ? static_cast<long>(r.orig_rax) : 0;
}

bool spoilt_by_stop(const user_regs_struct& r) {
  return in_call(r) && static_cast<long>(r.rax) == -EINTR && answers_eintr_to_a_stop(static_cast<long>(r.orig_rax));
}

void make_restartable(user_regs_struct& r, long number, pid_t pid) {
  if (!in_call(r)) {
    // About to make restart_syscall: it was stopped again before it could.
    if (r.rax == SYS_restart_syscall) {
      uint16_t code = 0;
      bool at_call = pid && Memory(pid).read(r.rip, &code, 2) && code == 0x050f;
      if (at_call && !number) number = number_from_code(pid, r.rip);
      if (at_call && number) {
        r.rax = static_cast<uint64_t>(number);
        sleep_for_the_rest(r);
      }
    }
    return;
  }
  long answer = static_cast<long>(r.rax), made = static_cast<long>(r.orig_rax);
  if (answer == kRestartSys || answer == kRestartNoIntr || answer == kRestartNoHand || spoilt_by_stop(r)) {
    make_again(r, made);
  } else if (answer == kRestartBlock) {
    if (made == SYS_restart_syscall) made = number ? number : number_from_code(pid, r.rip - 2);
    make_again(r, made ? made : SYS_restart_syscall);
    sleep_for_the_rest(r);
  } else {
    r.orig_rax = ~0ull;
  }
}

}  // namespace godwit::migrate
