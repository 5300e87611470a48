// Members in several PID namespaces, all with the same small TIDs, are killed at random instants while they use the
// allocator and its locks. Nothing may be wedged, leaked or doubled.
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cstdio>

#include "tests/fault/shared/workload.hh"

namespace godwit::testing {
namespace {

using namespace shared;

#ifdef __SANITIZE_ADDRESS__
constexpr uint32_t kKills = 1000;
#elif defined(__SANITIZE_THREAD__)
constexpr uint32_t kKills = 500;
#else
constexpr uint32_t kKills = 20000;
#endif
constexpr uint32_t kNamespaces = 4;

struct Tally {
  std::atomic<uint32_t> kills, busy, locks, undos, intents, failures;
  struct alignas(64) Member {
    std::atomic<uint32_t> working;
    volatile uint32_t hand;
  } members[kNamespaces];
};

[[noreturn]] void work(Segment segment, Ledger* ledger, Tally::Member* note, unsigned seed) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  Thread self;
  self.segment = segment;
  if (claim_slot(self, segment.area_of(0)) != 0) _exit(1);
  std::minstd_rand random(seed);
  note->working = 1;
  for (;;) turn_over(self, ledger, random() % kCells, (1 + random() % 6) * kChunk, &note->hand);
}

void count(Tally* tally, uint32_t hand) {
  tally->kills++;
  tally->busy += hand != kNothing;
  tally->locks += (hand & kLockInHand) != 0;
  tally->undos += (hand & kUndoInHand) != 0;
  tally->intents += (hand & kIntentInHand) != 0;
}

// Lives in a PID namespace of its own making: forks members into it and kills them.
[[noreturn]] void run_namespace(Segment segment, Ledger* ledger, Tally* tally, uint32_t n, unsigned seed) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (unshare(geteuid() == 0 ? CLONE_NEWPID : CLONE_NEWUSER | CLONE_NEWPID) != 0) _exit(2);
  pid_t init = fork();
  if (init == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
  }
  Thread self;
  self.segment = segment;
  if (claim_slot(self, segment.area_of(0)) != 0) _exit(3);
  std::minstd_rand random(seed);
  Tally::Member& note = tally->members[n];
  for (uint32_t k = 0; k < kKills / kNamespaces; ++k) {
    note.working = 0;
    note.hand = kNothing;
    pid_t victim = fork();
    if (victim == 0) work(segment, ledger, &note, random());
    while (!note.working) sched_yield();
    // A random instant, not a wait for something.
    uint64_t end = monotonic_ns() + random() % 300'000;
    while (monotonic_ns() < end) sched_yield();
    kill(victim, SIGKILL);
    int status;
    waitpid(victim, &status, 0);
    if (!WIFSIGNALED(status)) tally->failures++;
    count(tally, note.hand);
    if (k % 4 == 0) reap(self);
  }
  release_slot(self);
  kill(init, SIGKILL);
  waitpid(init, nullptr, 0);
  _exit(0);
}

TEST(KillCampaign, NothingIsWedgedLeakedOrDoubled) {
  TestSegment test;
  Thread self = test.join();
  Ledger* ledger = make_ledger(self);
  auto* tally = static_cast<Tally*>(
      mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  unsigned seed = ::testing::UnitTest::GetInstance()->random_seed();
  printf("seed %u\n", seed);
  std::vector<pid_t> namespaces;
  for (uint32_t n = 0; n < kNamespaces; ++n) {
    pid_t child = fork();
    if (child == 0) run_namespace(test.segment(), ledger, tally, n, seed * 31 + n);
    namespaces.push_back(child);
  }
  for (pid_t child : namespaces) {
    int status;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "namespace ended with " << status;
  }
  reap(self);
  printf("kills %u, with something in hand %u (lock %u, undo log %u, intent %u)\n", tally->kills.load(),
         tally->busy.load(), tally->locks.load(), tally->undos.load(), tally->intents.load());
  EXPECT_GE(tally->kills.load(), kKills);
  EXPECT_GE(tally->busy.load() * 2, tally->kills.load()) << "the campaign must strike where it matters";
  EXPECT_EQ(tally->failures.load(), 0u);
  expect_whole(test.segment(), ledger);
}

}  // namespace
}  // namespace godwit::testing
