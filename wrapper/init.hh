// Process 1 of a pod: starts the program, reaps everything, reports the program's end, and ends when the
// last process of the pod has ended. It never asks for stopped children, so a freeze stays invisible.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace godwit::wrapper {

struct InitPlan {
  std::vector<char*> argv;       // ends with null
  std::string preload;           // path of the wrapper; empty: the program runs without it
  int report = -1;               // SOCK_SEQPACKET to the supervisor; see InitReport
  int started = -1;              // write end of a pipe, close-on-exec: its end of file means that exec is over
  int restoree = -1;             // arrival: the bare process's end of its control socketpair
  pid_t program = 0;             // arrival: PID of the program in the pod; 0: start argv instead
  int64_t monotonic_offset = 0;  // ns, of the pod's time namespace
  int64_t boottime_offset = 0;
  uint64_t signal_mask = 0;      // as the program shall have it
  bool ignore_pipe = false;      // SIGPIPE was ignored when `godwit run` was called
};

/// What init and the program's process tell the supervisor, with the sender's credentials.
struct InitReport {
  enum Kind : int32_t {
    kForked = 1,   // from the program's process, just before exec
    kNoExec = 2,   // from the same: exec failed with errno `value`
    kEnded = 3,    // from init: the program ended with wait status `value`
    kBroken = 4,   // from init: namespaces could not be made, errno `value`
  };
  int32_t kind;
  int32_t value;
};

/// Runs in the first process of a fresh PID namespace, with stdio in place. Does not return.
[[noreturn]] void run_init(const InitPlan& plan);

}  // namespace godwit::wrapper
