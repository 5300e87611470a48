// One turn-over is killed after its first instruction, after its second, and so on to its last: lock, undo, allocation,
// publishing, giving back.
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <cstdio>

#include "tests/fault/shared/workload.hh"

namespace godwit::testing {
namespace {

using namespace shared;

// Forks a member that stops itself, does the turn and exits; steps it `limit` instructions and kills it.
// returns true if it came to its end first.
bool killed_after(Segment segment, Ledger* ledger, uint64_t limit) {
  pid_t child = fork();
  if (child == 0) {
    Thread self;
    self.segment = segment;
    if (claim_slot(self, segment.area_of(0)) != 0) _exit(1);
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    uint32_t hand;
    turn_over(self, ledger, 0, 3 * kChunk, &hand);
    raise(SIGUSR1);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  bool ended = false;
  for (uint64_t i = 0; i < limit && !ended; ++i) {
    ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr);
    waitpid(child, &status, 0);
    ended = WIFSTOPPED(status) && WSTOPSIG(status) == SIGUSR1;
  }
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  return ended;
}

TEST(SingleStep, EveryInstructionOfATurnMayBeTheLast) {
  TestSegment test;
  Thread self = test.join();
  Ledger* ledger = make_ledger(self);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr uint64_t kStride = 97;
#else
  constexpr uint64_t kStride = 1;
#endif
  uint32_t hand;
  turn_over(self, ledger, 0, 3 * kChunk, &hand);  // so that there is something to give back
  uint64_t steps = 0;
  for (bool ended = false; !ended; steps += kStride) {
    ended = killed_after(test.segment(), ledger, steps);
    for (LockName name : {kDirectory, kAllocator}) {  // takes over what the dead one held
      lock(self, name);
      unlock(self, name);
    }
    reap(self);
    expect_whole(test.segment(), ledger);
    if (HasFailure()) FAIL() << "after " << steps << " instructions";
  }
  printf("stepped %lu instructions\n", steps);
}

}  // namespace
}  // namespace godwit::testing
