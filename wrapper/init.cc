#include "wrapper/init.hh"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tuplespace/posix/proxy_vdso/proxy_vdso.hh"

namespace godwit::wrapper {
namespace {

void report(int fd, InitReport::Kind kind, int value) {
  InitReport message{kind, value};
  while (::send(fd, &message, sizeof message, MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
}

// Children of this process enter the new time namespace; offsets can be set only until one has.
bool make_time_namespace(const InitPlan& plan) {
  if (::unshare(CLONE_NEWTIME) != 0) return false;
  if (!plan.monotonic_offset && !plan.boottime_offset) return true;
  int fd = ::open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  auto line = [](char* to, size_t size, const char* clock, int64_t ns) {
    int64_t seconds = ns / 1'000'000'000, rest = ns % 1'000'000'000;
    if (rest < 0) seconds -= 1, rest += 1'000'000'000;
    return snprintf(to, size, "%s %lld %lld\n", clock, static_cast<long long>(seconds), static_cast<long long>(rest));
  };
  char text[128];
  int n = line(text, sizeof text, "monotonic", plan.monotonic_offset);
  n += line(text + n, sizeof text - static_cast<size_t>(n), "boottime", plan.boottime_offset);
  bool ok = ::write(fd, text, static_cast<size_t>(n)) == n;
  ::close(fd);
  return ok;
}

void prepend_preload(const std::string& library) {
  const char* old = ::getenv("LD_PRELOAD");
  std::string value = old && *old ? library + ":" + old : library;
  ::setenv("LD_PRELOAD", value.c_str(), 1);
}

[[noreturn]] void run_program(const InitPlan& plan) {
  ::setpgid(0, 0);  // so that the terminal's signals can be passed to its group alone
  if (!plan.preload.empty()) prepend_preload(plan.preload);
  report(plan.report, InitReport::kForked, 0);
  ::signal(SIGPIPE, plan.ignore_pipe ? SIG_IGN : SIG_DFL);
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &plan.signal_mask, nullptr, 8);
  if (!plan.preload.empty()) ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);  // see give_proxy_vdso
  ::execvp(plan.argv[0], plan.argv.data());
  report(plan.report, InitReport::kNoExec, errno);
  ::_exit(127);
}

// The bare process that a move's engine turns into the program: it only waits, with the engine's channel open.
[[noreturn]] void run_restoree(const InitPlan& plan) {
  ::setpgid(0, 0);
  report(plan.report, InitReport::kForked, plan.restoree);
  ::close(plan.report);
  ::close(plan.started);
  for (;;) ::pause();
}

pid_t start(const InitPlan& plan) {
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  pid_t wanted = plan.program;
  if (wanted) {
    arguments.set_tid = reinterpret_cast<uint64_t>(&wanted);
    arguments.set_tid_size = 1;
  }
  pid_t child = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
  if (child != 0) return child;
  if (wanted) run_restoree(plan);
  run_program(plan);
}

// The program stops at its exec, before its first instruction, and gets a vdso of ours in the kernel's place, so
// that no image of it ever holds a kernel's. Without one it can still be moved to a host with the same kernel.
// returns false if exec failed: then the program's process is gone, with this wait status.
bool give_proxy_vdso(pid_t program, int* status) {
  while (::waitpid(program, status, __WALL) < 0 && errno == EINTR) {
  }
  if (!WIFSTOPPED(*status)) return false;
  // Any signal but the trap of exec is the program's own, taken a moment too early.
  long signal = WSTOPSIG(*status) == SIGTRAP ? 0 : WSTOPSIG(*status);
  if (!signal) (void)install_proxy_vdso(program);
  ::ptrace(PTRACE_DETACH, program, nullptr, signal);
  return true;
}

void close_stdio() {
  int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
  if (null > 2) ::close(null);
}

// What is left when the program has ended gets what is meant for it: godwit stop ends that, too. To the first process of a
// PID namespace -1 is everybody else in it.
void pass_on(int signal) { ::kill(-1, signal); }

void stand_in_for_the_program() {
  ::signal(SIGTERM, pass_on);
  sigset_t passed;
  sigemptyset(&passed);
  sigaddset(&passed, SIGTERM);
  ::sigprocmask(SIG_UNBLOCK, &passed, nullptr);
}

}  // namespace

void run_init(const InitPlan& plan) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // nobody is left to hold its pipes and tell its status
  ::prctl(PR_SET_NAME, "godwit-init");
  ::setsid();
  pid_t program = make_time_namespace(plan) ? start(plan) : -1;
  if (program < 0) {
    report(plan.report, InitReport::kBroken, errno);
    ::_exit(125);
  }
  int status;
  if (!plan.program && !plan.preload.empty() && !give_proxy_vdso(program, &status)) {
    report(plan.report, InitReport::kEnded, status);
    ::_exit(0);
  }
  close_stdio();  // the program's end of the pipes is the program's alone
  ::close_range(3, static_cast<unsigned>(plan.report) - 1, 0);
  ::close_range(static_cast<unsigned>(plan.report) + 1, ~0u, 0);
  for (;;) {
    pid_t ended = ::waitpid(-1, &status, __WALL);
    if (ended == program) {
      stand_in_for_the_program();
      report(plan.report, InitReport::kEnded, status);
    }
    if (ended < 0 && errno == ECHILD) ::_exit(0);
  }
}

}  // namespace godwit::wrapper
