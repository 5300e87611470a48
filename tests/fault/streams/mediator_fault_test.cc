// Mediators are killed. One between two programs: after any of its instructions, and at any moment while a program sleeps
// that only its ring would wake: the stream stays whole, its locks free, and nobody sleeps on. One that is a server:
// after any of its instructions: its client sees an end, and nothing is left of it.
#include <signal.h>
#include <sys/wait.h>

#include <random>
#include <thread>

#include "tests/support/program.hh"
#include "tests/support/single_step.hh"
#include "tuplespace/streams/mediator.hh"

namespace godwit {
namespace {

using testing::Pod;
using testing::ProgramEnd;
using testing::ProgramListener;
using testing::TestSegment;
using testing::Victim;

constexpr uint16_t kPort = 8080;
constexpr uint64_t kStride = 97;       // instructions, from a different one each time
constexpr uint64_t kLongStride = 397;  // where there are many

/// A process that has done prepare(mediator), and is stopped before act(mediator).
template <class Prepare, class Act>
Victim mediator_victim(TestSegment& test, Prepare prepare, Act act) {
  return Victim([&] {
    shared::Thread self = test.join();
    StreamMediator mediator(self);
    prepare(mediator);
    Victim::act([&] { act(mediator); });
  });
}

uint64_t first_step() { return std::random_device()() % kStride; }
void nothing(StreamMediator&) {}
void listen_at_port(StreamMediator& mediator) { (void)mediator.listen("127.0.0.1", kPort); }

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
  Template stream{"stream", AnyFormal{}, "c>s", AnyFormal{}, AnyFormal{}};
  TemplateViews wanted(stream);
  uint64_t steps = first_step(), seen[3] = {};
  for (bool ended = false; !ended; steps += kStride) {
    asks_.write("secret");
    Tuple tuple = to_server(end_of_stream(), "public");
    std::vector<FieldView> put = views_of(tuple);
    ended = mediator_victim(test_, nothing, [&](StreamMediator& mediator) {
      (void)mediator.inp(wanted);
      (void)mediator.out(put);
    }).kill_after(steps).ended;
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
      StreamMediator mediator(self);
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

class KilledServer : public ::testing::Test {
 protected:
  uint64_t used() { return test_.segment().header().used_chunks; }
  // What the node does. returns whether nothing is left.
  bool reap_all() {
    ring_for_dead_mediators(self_);
    shared::reap(self_);
    remove_dead_mediators(self_);
    return used() == before_;
  }
  std::string next_connection() {
    char text[shared::kConnectionText];
    shared::connection_text(test_.segment().header().next_connection.load(), text);
    return text;
  }
  bool can_listen() { return StreamMediator(self_).listen("127.0.0.1", kPort).has_value(); }

  TestSegment test_;
  shared::Thread self_ = test_.join();
  Pod client_{test_, 7};
  uint64_t before_ = used();
};

TEST_F(KilledServer, WhileItBeginsToListen) {
  uint64_t steps = first_step();
  for (bool ended = false; !ended; steps += kStride) {
    ended = mediator_victim(test_, nothing, listen_at_port).kill_after(steps).ended;
    EXPECT_TRUE(can_listen());
    EXPECT_TRUE(reap_all());
    EXPECT_EQ(ProgramEnd(client_, kPort).socket(), nullptr);
    if (HasFailure()) FAIL() << "after " << steps << " instructions";
  }
  printf("stepped %lu instructions\n", steps);
}

TEST_F(KilledServer, WhileItServes) {
  Template any{AnyFormal{}, AnyFormal{}, AnyFormal{}, AnyFormal{}, AnyFormal{}};
  TemplateViews wanted(any);
  uint64_t steps = first_step(), answered = 0;
  for (bool ended = false; !ended; steps += kLongStride) {
    std::string name = next_connection();
    Tuple answer{"stream", name, "s>c", 0, Bytes{"answer"}}, end{"stream", name, "s>c", 6, Nil{}};
    std::vector<FieldView> puts[] = {views_of(answer), views_of(end)};
    Victim victim = mediator_victim(test_, listen_at_port, [&](StreamMediator& mediator) {
      for (int i = 0; i < 2; ++i) (void)mediator.inp(wanted);
      for (const auto& put : puts) (void)mediator.out(put);
    });
    ProgramEnd client(client_, kPort);
    ASSERT_EQ(client.name(), name);
    client.write("question");
    ended = victim.kill_after(steps).ended;
    std::string got = client.read();
    EXPECT_TRUE(got.empty() || got == "answer") << got;
    answered += !got.empty();
    EXPECT_EQ(client.read(), "");
    EXPECT_EQ(client.is_reset(), client.socket()->rings[0].head.load() == 0);
    if (steps % 2) client.close();
    reap_all();
    if (steps % 2 == 0) client.close();
    EXPECT_TRUE(reap_all());
    if (HasFailure()) FAIL() << "after " << steps << " instructions";
  }
  printf("stepped %lu instructions, %lu times it had answered\n", steps, answered);
  EXPECT_GT(answered, 0u);
}

}  // namespace
}  // namespace godwit
