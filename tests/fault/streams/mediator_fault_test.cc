// A mediator between two programs is killed: after any of its instructions, and at any moment while a program sleeps that
// only its ring would wake. The stream stays whole, its locks free, and nobody sleeps on.
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <random>
#include <thread>

#include "tests/support/program.hh"
#include "tuplespace/streams/mediator.hh"

namespace godwit {
namespace {

using testing::Pod;
using testing::ProgramEnd;
using testing::ProgramListener;
using testing::TestSegment;

constexpr uint16_t kPort = 8080;

class MediatorFault : public ::testing::Test {
 protected:
  // What the node does.
  void reap() {
    ring_for_dead_mediators(self_);
    shared::reap(self_);
  }
  Tuple to_server(uint64_t offset, std::string data) {
    return Tuple{"stream", asks_.name(), "c>s", static_cast<int64_t>(offset), Bytes{std::move(data)}};
  }
  uint64_t end_of_stream() { return asks_.socket()->rings[0].tail.load(); }
  void rest_is_free() {
    for (const shared::End& end : asks_.socket()->ends) {
      EXPECT_EQ(end.read_lock.load(), 0u);
      EXPECT_EQ(end.write_lock.load(), 0u);
    }
    for (Pod* pod : {&client_, &server_})
      for (uint32_t i = 1; i < pod->self.area->slot_count.load(); ++i)
        EXPECT_EQ(pod->self.area->slots[i].state.load() == shared::SlotState::kLive, i == pod->self.slot_index);
  }

  TestSegment test_;
  shared::Thread self_ = test_.join();
  Pod client_{test_, 7}, server_{test_, 8};
  ProgramListener listener_{server_, kPort};
  ProgramEnd asks_{client_, kPort};
  ProgramEnd answers_{server_, listener_};
};

TEST_F(MediatorFault, EveryInstructionMayBeItsLast) {
  constexpr uint64_t kStride = 97;  // from a different one each time
  Template stream{"stream", AnyFormal{}, "c>s", AnyFormal{}, AnyFormal{}};
  TemplateViews wanted(stream);
  uint64_t steps = std::random_device()() % kStride, seen[3] = {};
  for (bool ended = false; !ended; steps += kStride) {
    asks_.write("secret");
    uint64_t end = end_of_stream();
    pid_t child = fork();
    if (child == 0) {
      shared::Thread self = test_.join();
      Mediator mediator(self);
      std::vector<FieldView> put;
      Tuple tuple = to_server(end, "public");
      put = views_of(tuple);
      ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
      raise(SIGSTOP);
      (void)mediator.inp(wanted);
      (void)mediator.out(put);
      raise(SIGUSR1);
      _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    for (uint64_t i = 0; i < steps && !ended; ++i) {
      ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr);
      waitpid(child, &status, 0);
      ended = WIFSTOPPED(status) && WSTOPSIG(status) == SIGUSR1;
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    if (steps % 2) reap();  // else the programs find what it holds themselves
    asks_.write("!");
    std::string got = answers_.read_some(100);
    int outcome = got == "secret!" ? 0 : got == "!" ? 1 : got == "public!" ? 2 : -1;
    ASSERT_NE(outcome, -1) << got << " after " << steps << " instructions";
    ++seen[outcome];
    reap();
    rest_is_free();
    if (HasFailure()) FAIL() << "after " << steps << " instructions";
  }
  for (uint64_t n : seen) EXPECT_GT(n, 0u);
  printf("stepped %lu instructions: %lu not taken, %lu taken, %lu put\n", steps, seen[0], seen[1], seen[2]);
}

TEST_F(MediatorFault, WhoSleepsIsWokenThoughItsRingIsNeverRung) {
  std::mt19937 random(std::random_device{}());
  int put = 0;
  for (int round = 0; round < 300; ++round) {
    std::thread server([&] { EXPECT_EQ(answers_.read(), "x"); });
    while (!answers_.sleeps()) std::this_thread::yield();
    uint64_t end = end_of_stream();
    pid_t child = fork();
    if (child == 0) {
      shared::Thread self = test_.join();
      Mediator mediator(self);
      Tuple tuple = to_server(end, "x");
      (void)mediator.out(views_of(tuple));
      for (;;) pause();
    }
    // Half of them as soon as it is put, else anywhere.
    auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(random() % 4000);
    while (std::chrono::steady_clock::now() < until && !(round % 2 && end_of_stream() != end)) {
    }
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    reap();
    put += end_of_stream() != end;
    if (end_of_stream() == end) asks_.write("x");
    server.join();
    rest_is_free();
    ASSERT_FALSE(HasFailure()) << "in round " << round;
  }
  printf("%d of 300 had put when they were killed\n", put);
  EXPECT_GT(put, 0);
}

}  // namespace
}  // namespace godwit
