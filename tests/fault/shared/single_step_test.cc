// One turn-over is killed after its first instruction, after its second, and so on to its last: lock, undo, allocation,
// publishing, giving back.
#include <cstdio>

#include "tests/fault/shared/workload.hh"
#include "tests/support/single_step.hh"

namespace godwit::testing {
namespace {

using namespace shared;

// A member turns over, and is killed after so many instructions of that. returns true if it came to its end first.
bool killed_after(Segment segment, Ledger* ledger, uint64_t limit) {
  Victim member([&] {
    Thread self;
    self.segment = segment;
    if (claim_slot(self, segment.area_of(0)) != 0) return;
    Victim::act([&] {
      uint32_t hand;
      turn_over(self, ledger, 0, 3 * kChunk, &hand);
    });
  });
  return member.kill_after(limit).ended;
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
