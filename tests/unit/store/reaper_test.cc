// The node's reaper gives back what killed members had, and never holds up the node's end.
#include <signal.h>
#include <sys/wait.h>

#include "tests/support/space.hh"
#include "tuplespace/store/root.hh"
#include "tuplespace/store/spaces_table.hh"
#include "tuplespace/streams/deaths.hh"
#include "tuplespace/streams/reaper.hh"

namespace godwit::testing {
namespace {

using namespace std::chrono_literals;

class ReaperTest : public ::testing::Test {
 protected:
  TestSegment test{64ull << 20};
  Store space = Store::open(test.segment(), kDefaultSpace).value();

  // A child that takes the tuple ("a") and ends, or is stopped, where f says.
  template <class F>
  pid_t fork_taker(F f) {
    pid_t child = fork();
    if (child == 0) {
      (void)space.in(AnyOf("(\"a\")").wanted(), nullptr, [&](TupleView) -> bool { return f(), false; });
      _exit(0);
    }
    int status;
    waitpid(child, &status, WUNTRACED);
    return child;
  }
};

TEST_F(ReaperTest, PutsBackWhatADeadMemberHeld) {
  out(space, "(\"a\")");
  fork_taker([] { _exit(0); });
  Reaper reaper(test.segment());
  EXPECT_EQ(in(space, "(\"a\")"), "(\"a\")");
}

TEST_F(ReaperTest, SeesWhoIsThereWhileThreadsComeAndGo) {
  store::Desk& desk = **store::Desk::of(test.segment());
  std::atomic<bool> over = false;
  std::thread comer([&] {
    for (int i = 0; i < 200; ++i) std::thread([&] { out(space, "(\"a\")"); }).join();
    over = true;
  });
  while (!over) EXPECT_EQ(store::processes(desk), std::set<int>());  // but for ourselves
  comer.join();
  pid_t child = fork();
  if (child == 0) {
    (void)store::Desk::of(test.segment());
    for (;;) pause();
  }
  while (store::processes(desk) != std::set<int>{child}) std::this_thread::yield();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(store::processes(desk), std::set<int>());
}

TEST(Deaths, AreToldOnceOfEachProcess) {
  std::atomic<int> told = 0;
  Deaths deaths([&] {
    ++told;
    told.notify_one();
  });
  pid_t children[3];
  for (pid_t& child : children) {
    child = fork();
    if (child == 0)
      for (;;) pause();
    deaths.watch(child);
    deaths.watch(child);
  }
  for (int i = 0; i < 3; ++i) {
    told.wait(i - 1);
    kill(children[i], SIGKILL);
    told.wait(i);
    EXPECT_EQ(told, i + 1);
    waitpid(children[i], nullptr, 0);
  }
  deaths.watch(children[0]);  // it is gone
}

TEST(Deaths, MayEndWhileTheyAreWaitedFor) {
  pid_t child = fork();
  if (child == 0)
    for (;;) pause();
  { Deaths deaths([] {}); deaths.watch(child); }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

TEST_F(ReaperTest, EndsAlsoWhileAStoppedMemberHoldsALock) {
  out(space, "(\"a\")");
  fork_taker([] { _exit(0); });
  pid_t stopped = fork();
  if (stopped == 0) {
    store::Desk& desk = **store::Desk::of(test.segment());
    store::Locked locked(desk, store::root_of(desk, 0), store::kStripes);
    raise(SIGSTOP);
    _exit(0);
  }
  int status;
  waitpid(stopped, &status, WUNTRACED);
  auto begin = std::chrono::steady_clock::now();
  {
    Reaper reaper(test.segment());
    std::this_thread::sleep_for(50ms);  // so that it is held up, mostly
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 20s);
  kill(stopped, SIGKILL);
  waitpid(stopped, &status, 0);
  EXPECT_EQ(in(space, "(\"a\")"), "(\"a\")");  // by the thread that was left behind, and ends now
  shared::Area* area = test.segment().area_of(0);
  for (uint32_t i = 2; i < area->slot_count.load(); ++i)
    while (area->slots[i].state.load() != shared::SlotState::kFree) std::this_thread::yield();
  std::this_thread::sleep_for(50ms);
}

}  // namespace
}  // namespace godwit::testing
