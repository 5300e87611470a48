// Continuing or killing a copy that was left behind.
#include "migrate/adopt.hh"

#include <signal.h>

#include "migrate/control_view.hh"
#include "migrate/proc.hh"

namespace godwit::migrate {

bool is_left_behind(pid_t pid) {
  std::string status = read_text(proc_path(pid, "status"));
  return line_after(status, "State:\t").starts_with("T (stopped)") && number_after(status, "TracerPid:").value_or(1) == 0;
}

Result<void> adopt_and_continue(pid_t pid, uint64_t control) {
  // A thread that waits for `park` looks again when it goes on: a stop interrupts the wait.
  if (auto r = set_park(Memory(pid), control, 0); !r) return r;
  if (::kill(pid, SIGCONT)) return errno_error("continue process " + std::to_string(pid));
  return {};
}

Result<void> adopt_and_kill(pid_t pid) {
  if (::kill(pid, SIGKILL)) return errno_error("kill process " + std::to_string(pid));
  return {};
}

}  // namespace godwit::migrate
