// What is undone or finished for others: answers that were not committed, chains of dead collectors, tuples that cannot
// go back at once, and locks with many who wait.
#include <signal.h>
#include <sys/wait.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "tests/support/space.hh"
#include "tuplespace/shared/recovery.hh"
#include "tuplespace/store/index.hh"
#include "tuplespace/store/look.hh"
#include "tuplespace/store/reap.hh"
#include "tuplespace/store/root.hh"

namespace godwit::testing {
namespace {

using namespace std::chrono_literals;

class RecoveryTest : public ::testing::Test {
 protected:
  TestSegment test{256ull << 20};
  Store space = Store::open(test.segment(), kDefaultSpace).value();

  store::Desk& desk() { return **store::Desk::of(test.segment()); }
  store::Root& root(std::string_view name) { return *store::open_space(desk(), name)->root; }

  // A child that does what f says, and is then stopped. To be killed.
  template <class F>
  pid_t fork_stopped(F f) {
    pid_t child = fork();
    if (child == 0) {
      f(desk());
      _exit(1);
    }
    int status;
    waitpid(child, &status, WUNTRACED);
    EXPECT_TRUE(WIFSTOPPED(status));
    return child;
  }
  void end(pid_t child) {
    int status;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
  }
};

TEST_F(RecoveryTest, AWildWaitIsNotMissedWhileAnAnswerToItIsNotCommitted) {
  store::Root& there = root("default");
  std::string taken;
  std::thread taker([&] { taken = in(space, "(?, 1)"); });
  while (store::list_spaces(desk())[0].waiters != 1) std::this_thread::yield();
  pid_t answering = fork_stopped([&](store::Desk& desk) {
    desk.lock(there.wild_lock);
    desk.bench->spaces_in_hand[there.number / 64] = uint64_t{1} << there.number % 64;
    desk.set(&there.wild_waiters, 0u);
    raise(SIGSTOP);
  });
  std::thread writer([&] { out(space, "(\"a\", 1)"); });
  std::this_thread::sleep_for(20ms);
  end(answering);
  writer.join();
  EXPECT_EQ(count(space, "(?, ?)"), 0u);  // handed over by the out
  taker.join();
  EXPECT_EQ(taken, "(\"a\", 1)");
}

TEST_F(RecoveryTest, WhoEndsADeadCollectorsChainLocksBothSpaces) {
  auto to = Store::create(test.segment(), "to", {}).value();
  out(space, "(\"a\", 1)");
  store::Root &from_root = root("default"), &to_root = root("to");
  end(fork_stopped([&](store::Desk& desk) {
    store::LockedRanges locked(desk, store::ranges_of(from_root, to_root));
    auto found = store::find(desk, stripes_of(from_root), AnyOf("(?, ?)").wanted());
    store::unlink(desk, *found.stripe, found.tuple);
    store::Stored& stored = store::stored_at(desk, found.tuple);
    desk.set(&stored.shape, store::Ref{0});
    desk.set(&stored.newer, store::Ref{0});
    desk.set(&desk.bench->chain, found.tuple);
    desk.bench->chain_space = to_root.number;
    desk.bench->chain_generation = to_root.generation;
    desk.set(&desk.bench->chain_decided, 1u);
    desk.commit();
    raise(SIGSTOP);
  }));
  std::atomic<bool> reaped = false;
  std::thread reaper;
  {
    store::release_dead(desk().self, shared::owner_in(test.segment(), 0, 2));
    store::Locked locked(desk(), from_root, store::kStripes);
    reaper = std::thread([&] {
      store::reap(desk());
      reaped = true;
    });
    std::this_thread::sleep_for(100ms);
    EXPECT_FALSE(reaped);
  }
  reaper.join();
  EXPECT_EQ(inp(to, "(?, ?)"), "(\"a\", 1)");
}

// Its shape was forgotten meanwhile, and there is no memory to write it down again.
TEST_F(RecoveryTest, WhatCannotGoBackStaysInHandUntilItCan) {
  TestSegment little(32ull << 20);
  Store single = Store::create(little.segment(), "single", {1 << 30, false}).value();
  out(single, "(\"a\", 1)");
  auto& own = **store::Desk::of(little.segment());
  store::Root& root = *store::open_space(own, "single")->root;
  std::atomic<int> filling = 0, full = 0, drain = 0;
  std::thread filler([&] {
    auto& desk = **store::Desk::of(little.segment());
    filling.wait(0);
    store::clear_shapes(desk, store::Locked(desk, root, 0).stripe());
    for (size_t size : {1u << 20, 60000u, 10u})
      while (put(single, Tuple{"fill", std::string(size, 'x')}).has_value()) {
      }
    full = 1;
    full.notify_one();
    drain.wait(0);
    while (inp(single, "(\"fill\", ?)") != "absent") {
    }
  });
  auto done = single.in(AnyOf("(\"a\", 1)").wanted(), nullptr, [&](TupleView) {
    store::flush_all(own, *own.bench);
    filling = 1;
    filling.notify_one();
    full.wait(0);
    return false;
  });
  EXPECT_TRUE(done.has_value() && !*done);
  EXPECT_NE(own.bench->waiter.held, 0u);
  drain = 1;
  drain.notify_one();
  filler.join();
  EXPECT_EQ(inp(single, "(\"a\", 1)"), "(\"a\", 1)");
  EXPECT_EQ(own.bench->waiter.held, 0u);
}

// The one that wakes does not know whether others sleep: so it says that some do.
TEST_F(RecoveryTest, OfThreeThatWaitForALockNoneIsForgotten) {
  store::Lock& lock = root("default").stripes[0].lock;
  int slow = 0;
  for (int round = 0; round < 10; ++round) {
    std::chrono::steady_clock::time_point freed[2];
    std::thread threads[2];
    desk().lock(lock);
    for (int i : {0, 1})
      threads[i] = std::thread([&, i] {
        store::Desk& own = desk();
        own.lock(lock);
        freed[i] = std::chrono::steady_clock::now();
        std::this_thread::sleep_for(1ms);
        own.unlock(lock);
      });
    std::this_thread::sleep_for(5ms);
    auto begin = std::chrono::steady_clock::now();
    desk().unlock(lock);
    for (std::thread& thread : threads) thread.join();
    slow += std::max(freed[0], freed[1]) - begin > 80ms;
  }
  EXPECT_LT(slow, 5);
}

TEST_F(RecoveryTest, WhoHasASlotNextIsAnotherOwner) {
  (void)desk();
  uint32_t owner = 0;
  for (int i = 0; i < 3; ++i) {
    std::thread([&] {
      EXPECT_NE(desk().owner(), owner);
      owner = desk().owner();
    }).join();
    EXPECT_EQ(desk().bench_of(owner), nullptr);
  }
  EXPECT_EQ(test.segment().area_of(0)->slot_count.load(), 3u);
}

TEST_F(RecoveryTest, ManyThreadsOfAHostMayUseSpaces) {
  constexpr int kMany = 300;
  std::atomic<int> there = 0, over = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kMany; ++i)
    threads.emplace_back([&] {
      shared::Thread self = test.join();
      if (++there == kMany) there.notify_one();
      over.wait(0);
      shared::release_slot(self);
    });
  for (int n; (n = there) != kMany;) there.wait(n);
  out(space, "(\"a\", 1)");
  over = 1;
  over.notify_all();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace godwit::testing
