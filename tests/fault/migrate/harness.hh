// Pods, channels and moves between "hosts" on one machine.
#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "migrate/arrival.hh"
#include "migrate/channel.hh"
#include "migrate/departure.hh"
#include "tuplespace/posix/unique_fd.hh"

namespace godwit::migrate::test {

inline Deadline in_seconds(int n) { return Clock::now() + std::chrono::seconds(n); }

/// Two ends of a channel over a socket pair.
std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>> channel_pair();

// A program in namespaces of its own, whose standard output is a pipe to us.
class Pod {
 public:
  struct Options {
    bool proxy_vdso = true;
  };
  Pod(std::vector<std::string> command, Options options);
  explicit Pod(std::vector<std::string> command) : Pod(std::move(command), Options{}) {}
  ~Pod();
  pid_t pid() const { return pid_; }
  void set_pid(pid_t pid) { pid_ = pid; }
  /// Next line of output; empty when none came in time or the program has closed it.
  std::string line(Deadline deadline);
  /// Waits for `count` lines that begin with `prefix`; a line that begins with "BAD" fails the test.
  testing::AssertionResult lines(const std::string& prefix, int count = 2);
  int output() const { return writing_.get(); }
  /// Sends a line to the program's standard input.
  void tell(const std::string& text);
  int input() const { return input_reading_.get(); }
  /// The process whose end tells how the copy's program ended.
  void set_waiter(pid_t waiter) { waiter_ = waiter; }
  /// What has become of the program, for messages of failed tests.
  std::string fate();

 private:
  pid_t pid_ = 0, waiter_ = 0;
  UniqueFd reading_, writing_, input_reading_, input_writing_;
  std::string buffer_;
};

struct MoveFigures {
  double blackout_ms = 0;
  DepartureFigures source;
  ArrivalFigures target;
};

/// What to do instead of a plain move; each may be empty.
struct MoveOptions {
  bool abort = false;           // thaw after the hand-over, as if the commit had been refused
  bool foreign_vdso = false;
  uint64_t control = 0;
  std::function<void(ArrivalHost&)> host;  // adds to the target's host
  std::function<void(Arrival&)> carry;     // when the copy is complete, before it resumes
  MoveFigures* figures = nullptr;
};

/// Moves the pod's program to a new "host". Retries what the engine asks to be tried again.
Result<void> move(Pod& pod, const MoveOptions& options = {});
/// One attempt.
Result<void> move_once(Pod& pod, const MoveOptions& options = {});

/// Waits until the condition holds; false after ten seconds.
bool eventually(const std::function<bool()>& condition);
std::string victim_path();

}  // namespace godwit::migrate::test
