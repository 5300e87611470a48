// A process of which every system call may be the last, of any of its threads.
#pragma once
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>

namespace godwit::testing {

/// What a process has brought to disk, by path: the bytes that the file had when its last sync began.
class Synced {
 public:
  /// At the beginning or end of a system call of a thread.
  void see(pid_t thread) {
    __ptrace_syscall_info call{};
    ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof call, &call);
    std::error_code gone;
    if (call.op == PTRACE_SYSCALL_INFO_ENTRY && (call.entry.nr == SYS_fdatasync || call.entry.nr == SYS_fsync)) {
      std::string link = "/proc/" + std::to_string(thread) + "/fd/" + std::to_string(call.entry.args[0]);
      std::string path = std::filesystem::read_symlink(link, gone);
      syncing_[thread] = {path, std::filesystem::file_size(path, gone)};
    } else if (auto sync = syncing_.extract(thread); sync && call.op == PTRACE_SYSCALL_INFO_EXIT && call.exit.rval == 0) {
      bytes_[sync.mapped().first] = sync.mapped().second;
    }
  }
  /// 0: it was never synced.
  uintmax_t bytes_of(const std::string& path) const {
    auto found = bytes_.find(path);
    return found == bytes_.end() ? 0 : found->second;
  }

 private:
  std::map<pid_t, std::pair<std::string, uintmax_t>> syncing_;
  std::map<std::string, uintmax_t> bytes_;
};

/// Forks a child that lives life(), whose threads run as they like, and kills it when they have come to so many
/// beginnings and ends of system calls together. The child is dead and waited for when this returns; the
/// caller has no other children.
/// synced   sees what it brings to disk.
/// returns  whether it had ended before; it must have returned from life().
template <class F>
bool lives_through(F life, int limit, Synced& synced) {
  pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    [&]() noexcept { life(); }();  // what escapes ends the child, which must not go on as a second test
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
  ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
  bool killed = false, ended = false;
  for (int seen = 0;;) {
    pid_t thread = waitpid(-1, &status, __WALL);
    if (thread < 0) break;  // none is left
    if (!WIFSTOPPED(status)) {
      if (thread == child && !killed) {
        ended = true;
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
      }
      continue;
    }
    bool of_call = WSTOPSIG(status) == (SIGTRAP | 0x80);
    if (of_call) synced.see(thread);
    if (of_call && ++seen == limit) {
      killed = true;
      kill(child, SIGKILL);
    }
    bool of_tracing = of_call || WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP;
    ptrace(PTRACE_SYSCALL, thread, nullptr, of_tracing ? 0L : static_cast<long>(WSTOPSIG(status)));
  }
  return ended;
}

}  // namespace godwit::testing
