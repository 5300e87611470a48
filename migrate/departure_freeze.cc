// All threads are stopped where a copy of them can go on: outside of sections and of the vDSO.
#include "migrate/departure_parts.hh"

#include <signal.h>

#include "migrate/proc.hh"
#include "migrate/protocol.hh"
#include "tuplespace/fault.hh"
#include "wrapper/unmovable.hh"

namespace godwit::migrate {

Result<void> Departure::freeze(Deadline deadline) {
  GODWIT_FAULT_POINT("move.source.freezing");
  auto start = Clock::now();
  frozen_ = true;
  if (auto r = stop_process(pid_, threads_, deadline); !r) return r;
  figures_.stop_ms = ms_since(start);
  GODWIT_FAULT_POINT("move.source.stopped");

  start = Clock::now();
  if (auto r = name_threads(); !r) return r;
  if (auto r = run_out(deadline); !r) return r;
  if (foreign_vdso_)
    for (Traced& t : threads_)
      if (auto r = leave_vdso(t, deadline); !r) return r;
  figures_.run_out_ms = ms_since(start);

  start = Clock::now();
  if (auto r = check_unchanged(); !r) return r;
  figures_.check_ms = ms_since(start);
  if (GODWIT_FAULT_ERROR("move.source.frozen")) return injected_fault();
  return {};
}

Result<void> Departure::name_threads() {
  for (Traced& t : threads_) {
    auto [entry, fresh] = tids_.try_emplace(t.thread);
    if (fresh)
      entry->second = innermost(read_text(proc_path(pid_, "task/" + std::to_string(t.thread) + "/status")), "NSpid:");
    t.tid = entry->second;
  }
  return {};
}

// Threads inside a section of the whole segment go on until they are outside: its addresses mean nothing
// on another host. `park` keeps them from entering the next one.
Result<void> Departure::run_out(Deadline deadline) {
  if (!control_address_) return {};
  if (auto r = set_park(memory_, control_address_, 1); !r) return r;
  auto control = read_control(memory_, control_address_);
  if (!control) return control.error();
  control_ = std::move(*control);
  if (control_.unmovable) return cannot_move(unmovable_text(static_cast<Unmovable>(control_.unmovable)));
  std::vector<std::pair<Traced*, uint64_t>> inside;
  for (Traced& t : threads_)
    for (size_t i = 0; i < control_.threads.size(); ++i)
      if (control_.threads[i].tid == t.tid && control_.threads[i].inside)
        inside.emplace_back(&t, control_.inside_address(i));
  // All at once: one may wait for a lock that another holds.
  for (auto& [t, address] : inside)
    if (request(PTRACE_SYSCALL, t->thread, 0, nullptr)) return errno_error("resume a thread in a section");
  for (auto& [t, address] : inside)
    if (auto r = leave_section(*t, address, deadline); !r) return r;
  if (inside.empty()) return {};
  control = read_control(memory_, control_address_);  // sections may have made or freed pieces
  if (!control) return control.error();
  control_ = std::move(*control);
  return {};
}

namespace {
bool at_call_entry(pid_t thread) {
  __ptrace_syscall_info info{};
  return request(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY;
}
}  // namespace

Result<void> Departure::leave_section(Traced& t, uint64_t inside_address, Deadline deadline) {
  for (;;) {
    auto stop = wait_for_stop(t.thread, deadline);
    if (!stop) return stop.error();
    if (stop->kind == Stop::kGone) return changed("a thread ended");
    long pass_on = stop->kind == Stop::kSignal ? stop->signal : 0;  // the wrapper defers handlers in sections
    if (stop->kind == Stop::kSyscall && at_call_entry(t.thread)) {
      auto depth = memory_.get<uint32_t>(inside_address);
      if (!depth) return depth.error();
      if (*depth == 0) break;
    }
    if (request(PTRACE_SYSCALL, t.thread, 0, reinterpret_cast<void*>(pass_on))) return errno_error("resume a thread in a section");
  }
  // At the entry of a call outside the section, mostly the wait for `park`. The call is taken back, so that
  // the thread is like any other that was stopped between two instructions.
  user_regs_struct r;
  if (request(PTRACE_GETREGS, t.thread, 0, &r)) return errno_error("registers");
  user_regs_struct skipped = r;
  skipped.orig_rax = ~0ull;
  if (request(PTRACE_SETREGS, t.thread, 0, &skipped) || request(PTRACE_SYSCALL, t.thread, 0, nullptr))
    return errno_error("take a call back");
  for (;;) {
    auto stop = wait_for_stop(t.thread, deadline);
    if (!stop) return stop.error();
    if (stop->kind == Stop::kSyscall) break;
    if (stop->kind == Stop::kGone) return changed("a thread ended");
    if (request(PTRACE_SYSCALL, t.thread, 0, nullptr)) return errno_error("take a call back");
  }
  r.rax = r.orig_rax;
  r.orig_rax = ~0ull;
  r.rip -= 2;
  t.registers = r;
  t.changed = true;
  if (request(PTRACE_SETREGS, t.thread, 0, &r) || request(PTRACE_GETSIGMASK, t.thread, 8, &t.mask))
    return errno_error("take a call back");
  return {};
}

// The target's kernel has another vdso: a thread must not be inside of this one's code.
Result<void> Departure::leave_vdso(Traced& t, Deadline deadline) {
  auto inside = [&] { return t.registers.rip >= image_.vdso_start && t.registers.rip < image_.vdso_end; };
  if (!inside()) return {};
  if (static_cast<long>(t.registers.orig_rax) >= 0) make_restartable(t.registers, 0, t.thread), t.changed = true;
  if (t.changed && request(PTRACE_SETREGS, t.thread, 0, &t.registers)) return errno_error("registers");
  while (inside()) {
    if (request(PTRACE_SINGLESTEP, t.thread, 0, nullptr)) return errno_error("step out of the vdso");
    auto stop = wait_for_stop(t.thread, deadline);
    if (!stop) return stop.error();
    if (stop->kind == Stop::kGone) return changed("a thread ended");
    if (stop->kind == Stop::kSignal && stop->signal != SIGTRAP) {
      siginfo_t info{};
      if (request(PTRACE_GETSIGINFO, t.thread, 0, &info) == 0) t.taken.push_back(info);
    }
    if (request(PTRACE_GETREGS, t.thread, 0, &t.registers)) return errno_error("registers");
  }
  t.changed = true;
  return {};
}

}  // namespace godwit::migrate
