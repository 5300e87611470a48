// Stopping, reading and continuing the threads of a process.
//
// A process that is frozen for a move is in group stop (SIGSTOP) first and traced second: when the
// engine dies, tracing ends and the group stop remains, so the program does not run on by itself.
// ptrace belongs to the thread that asked for it: one move is the work of one engine thread.
#pragma once
#include <elf.h>
#include <sys/ptrace.h>

#include <map>
#include <string>
#include <vector>

#include "migrate/channel.hh"
#include "migrate/image.hh"

namespace godwit::migrate {

/// ptrace(2) with an int for a request: glibc's enum lacks newer ones.
inline long request(int what, pid_t thread, uint64_t address, void* data) {
  return ::ptrace(static_cast<enum __ptrace_request>(what), thread, address, data);
}

struct Stop {
  enum Kind {
    kGroup,    // group stop is in effect
    kTrap,     // PTRACE_INTERRUPT
    kSyscall,  // entry or exit, after PTRACE_SYSCALL
    kSignal,   // `signal` is about to be delivered; also the trap after a step
    kEvent,    // birth of a thread
    kGone,     // ended
  };
  Kind kind;
  int signal = 0;
};

/// Next stop of a traced thread. errors: errc::timed_out; the thread is unaffected.
Result<Stop> wait_for_stop(pid_t thread, Deadline deadline);

struct Traced {
  pid_t thread = 0;  // outer TID
  uint32_t tid = 0;  // in the pod
  user_regs_struct registers{};  // as the kernel shows them, with a restart pending
  uint64_t mask = 0;
  std::vector<siginfo_t> taken;  // signals taken from the thread at a stop; to be sent again
  bool changed = false;          // registers must be put back when it goes on
};

/// Seizes a thread and stops it alone (PTRACE_INTERRUPT).
Result<Traced> pause_thread(pid_t thread, Deadline deadline);
/// Puts registers and mask back and lets go of the thread.
Result<void> release_thread(Traced& thread, uint64_t syscall_address);

/// SIGSTOP, then seizes every thread and waits until all are in group stop. `threads` holds those seized,
/// also after an error, so that they can be let go.
Result<void> stop_process(pid_t pid, std::vector<Traced>& threads, Deadline deadline);
/// A traced process whose threads are all stopped enters group stop without executing anything.
Result<void> enter_group_stop(pid_t pid, const std::vector<pid_t>& threads, Deadline deadline);
/// Ends the group stop and the tracing of all threads; a SIGCONT handler of the program is not run if that
/// can be helped.
void continue_and_detach(pid_t pid, const std::vector<pid_t>& threads);

/// Reads what a thread goes on with on another host. `number`: of the system call that a restart_syscall
/// of the thread stands for, 0 if not known.
Result<ThreadState> read_state(const Traced& thread, long number);
Result<std::vector<siginfo_t>> read_pending(pid_t thread, bool shared);
/// On a thread of the target.
Result<void> write_state(pid_t thread, const ThreadState& state);
/// Sends signals again, from the thread itself: only so they keep their siginfo. Clobbers registers.
Result<void> requeue(pid_t thread, uint64_t syscall_address, const user_regs_struct& base, uint32_t pid,
                     uint32_t tid, const std::vector<siginfo_t>& signals, bool shared);

/// What `registers` must be for the thread to go on elsewhere: an interrupted call is made again.
void make_restartable(user_regs_struct& registers, long number, pid_t pid);
/// The number of the call that was interrupted and may come back as restart_syscall; 0: none.
long interrupted_call(const user_regs_struct& registers);
/// True for calls that answer EINTR to a mere stop; for these even a thaw needs make_restartable.
bool spoilt_by_stop(const user_regs_struct& registers);

}  // namespace godwit::migrate
