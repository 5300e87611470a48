// A process of which every instruction may be the last.
#pragma once
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>

namespace godwit::testing {

/// A child that prepares, then acts, and is killed after so many instructions of its act. A system call is one
/// instruction. Threads that the child has started are not stepped: they run as they like until it is killed.
class Victim {
 public:
  /// Forks, and returns when the child has stopped before its act.
  /// life  runs in the child: prepares, and at its end calls Victim::act.
  template <class F>
  explicit Victim(F life) : process_(fork()) {
    if (process_ == 0) live(life);
    waitpid(process_, &status_, 0);
    EXPECT_TRUE(has_stopped_by(SIGSTOP)) << "the victim did not come to its act: status " << status_;
  }
  ~Victim() { end(); }
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;

  /// In the child: what is stepped. Nothing is destroyed after it.
  template <class F>
  [[noreturn]] static void act(F what) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    what();
    raise(SIGUSR1);
    _exit(0);
  }

  struct Stepped {
    uint64_t instructions;  // <= limit
    bool ended;             // the act came to its end within the limit, or the victim ended otherwise, which fails the test
  };
  /// Once. Whatever has happened, the child is dead and waited for when this returns.
  Stepped kill_after(uint64_t limit) {
    Stepped done{0, !has_stopped_by(SIGSTOP)};
    for (; done.instructions < limit && !done.ended; ++done.instructions) {
      ptrace(PTRACE_SINGLESTEP, process_, nullptr, nullptr);
      waitpid(process_, &status_, 0);
      done.ended = !has_stopped_by(SIGTRAP);
    }
    if (done.instructions && done.ended) {
      EXPECT_TRUE(has_stopped_by(SIGUSR1)) << "the victim did not come to the end of its act: status " << status_;
    }
    end();
    return done;
  }

 private:
  // What escapes ends the child, which must not go on as a second test.
  template <class F>
  [[noreturn]] static void live(F& life) noexcept {
    life();
    _exit(1);
  }
  bool has_stopped_by(int signal) const { return WIFSTOPPED(status_) && WSTOPSIG(status_) == signal; }
  void end() {
    if (!WIFSTOPPED(status_)) return;
    kill(process_, SIGKILL);
    waitpid(process_, &status_, 0);
    EXPECT_TRUE(WIFSIGNALED(status_)) << status_;
  }

  pid_t process_;
  int status_ = 0;
};

}  // namespace godwit::testing
