// A client of another host: what becomes of it and of its tuples when it, the node or the link between them fails.
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "tests/support/client_key.hh"
#include "tests/support/link.hh"
#include "tests/support/linearizability.hh"
#include "tuplespace/mediator.hh"
#include "tuplespace/remote/connection.hh"
#include "tuplespace/shared/futex.hh"
#include "tuplespace/space.hh"
#include "tuplespace/transaction.hh"

namespace godwit {
namespace {

using namespace std::chrono_literals;
using namespace test;

std::errc code_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Failure& failure) {
    return static_cast<std::errc>(failure.code().value());
  }
  return {};
}

class RemoteTest : public ::testing::Test {
 protected:
  RemoteTest() {
    setenv("GODWIT_EXECUTABLE", GODWIT_BINARY, 1);
    auto ready = start_node_for_clients(host_);
    if (ready.status != 0) throw std::runtime_error(ready.err);
    key_ = client_key(host_, "alice");
    std::ifstream file(key_);
    for (std::string word; file >> word;)
      if (word.starts_with("127.0.0.1:")) port_ = static_cast<uint16_t>(std::stoi(word.substr(10)));
  }
  /// A process that ends with f.
  template <class F>
  static pid_t process(F f) {
    pid_t child = fork();
    if (child != 0) return child;
    try {
      f();
    } catch (const Failure& failure) {
      std::fprintf(stderr, "%s\n", failure.what());
      _exit(1);
    }
    _exit(0);
  }
  uint32_t waiters() const { return Space::list(host_.home()).front().waiters; }

  TestHost host_{"there"};
  std::string key_;
  uint16_t port_ = 0;
};

TEST_F(RemoteTest, WhatOneSidePutsTheOtherTakes) {
  Space here("default", host_.home()), elsewhere("default", key_);
  elsewhere.out("task", 1, Tuple{"nested", Bytes{std::string("\0\xff", 2)}}, 2.5, true, Nil{});
  auto [n, nested, x, flag, nil] = here.in("task", formal<int>, formal<Tuple>, formal<double>, formal<bool>, formal<Nil>);
  EXPECT_TRUE(identical(nested, Tuple{"nested", Bytes{std::string("\0\xff", 2)}}));
  here.out("answer", n);
  EXPECT_EQ(elsewhere.in("answer", formal<int>), std::tuple(1));
}

TEST_F(RemoteTest, WhatIsOfTheHostItselfIsRefusedInALine) {
  EXPECT_EQ(code_of([&] { Mediator mediator(key_); }), std::errc::operation_not_supported);
  Space here("default", host_.home()), elsewhere("default", key_);
  here.out("x");
  EXPECT_EQ(code_of([&] { here.collect(elsewhere, "x"); }), std::errc::operation_not_supported);
  EXPECT_EQ(code_of([&] { elsewhere.collect(here, "x"); }), std::errc::operation_not_supported);
  Transaction local(host_.home());
  EXPECT_EQ(code_of([&] { (void)local.of(elsewhere); }), std::errc::operation_not_supported);
}

TEST_F(RemoteTest, AKeyThatTheNodeDoesNotKnowIsRefused) {
  std::string stranger = client_key(host_, "mallory");
  ASSERT_EQ(host_.godwit({"keygen", "--revoke", "mallory"}).status, 0);
  EXPECT_EQ(code_of([&] { Space("default", stranger); }), std::errc::connection_refused);
  std::string no_key = host_.home() + "-none.key";
  std::ofstream(no_key) << "address 127.0.0.1:1\n";
  EXPECT_EQ(code_of([&] { Space("default", no_key); }), std::errc::invalid_argument);
}

TEST_F(RemoteTest, ARevokedKeyEndsWhatWaits) {
  Space space("default", key_);
  auto pending = space.in_async("never");
  while (waiters() == 0) std::this_thread::yield();
  ASSERT_EQ(host_.godwit({"keygen", "--revoke", "alice"}).status, 0);
  EXPECT_EQ(code_of([&] { pending.get(); }), std::errc::connection_reset);
  EXPECT_EQ(code_of([&] { space.out("x"); }), std::errc::connection_refused);
}

TEST_F(RemoteTest, ManyThreadsAskAtOnce) {
  Space space("default", key_);
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        space.out("n", t, i);
        EXPECT_EQ(space.in("n", t, formal<int>), std::tuple(i));
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(space.count(any, any, any), 0u);
}

// Its answers do not pile up at the node, nor is what others have taken undone.
TEST_F(RemoteTest, ARequestThatWaitsHoldsNobodyUp) {
  Space space("default", key_);
  auto waits = space.in_async("last");
  for (int i = 0; i < 6000; ++i) space.out_async("n", i);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(space.in("n", formal<int>), std::tuple(i));
  space.out("last");
  waits.get();
  EXPECT_EQ(space.count("n", any), 5000u);
}

TEST_F(RemoteTest, AClientKilledBeforeItKnowsThatItHasTakenGivesItBack) {
  Space here("default", host_.home());
  here.out("job", 1);
  Finished killed = run({GODWIT_BINARY, "in", "(\"job\", ?)"}, {{"GODWIT_HOME", key_}, {"GODWIT_FAULT", "remote.taken"}});
  EXPECT_EQ(killed.status, 128 + SIGKILL);
  EXPECT_FALSE(here.inp("job", any));
  EXPECT_EQ(here.in("job", formal<int>), std::tuple(1));  // once nothing has been heard of it for long enough
}

TEST_F(RemoteTest, AKilledClientTakesNothingAndItsLeasesAndTransactionsEnd) {
  Space here("default", host_.home());
  here.out("leased", 1), here.out("within", 1);
  pid_t child = process([&] {
    Space space("default", key_);
    auto lease = space.in_for(1h, "leased", formal<int>);
    Transaction transaction(key_);
    Space within = transaction.of(space);
    within.in("within", formal<int>);
    within.out("unseen");
    auto waits = space.in_async("job");
    space.out("ready");
    pause();
  });
  here.in("ready");
  EXPECT_FALSE(here.inp("leased", any) || here.inp("within", any));
  kill(child, SIGKILL);
  wait_for(child);
  here.in("leased", any), here.in("within", any);
  EXPECT_EQ(waiters(), 0u);
  EXPECT_EQ(here.count("unseen"), 0u);
}

TEST_F(RemoteTest, AClientThatExitsEndsItsSessionAtOnce) {
  Space here("default", host_.home());
  pid_t child = fork();
  if (child == 0) {
    Space space("default", key_);
    static auto waits = space.in_async("job");
    static auto lease = space.in_for(1h, Wait(1h), "leased");
    exit(0);
  }
  here.out("leased");
  EXPECT_EQ(wait_for(child), 0);
  here.in(5s, "leased");  // the node waits 10 s for who is silent
  EXPECT_EQ(waiters(), 0u);
}

TEST_F(RemoteTest, ATransactionIsRolledBackByTheNodesEndAndBegunAnew) {
  Space here("default", host_.home()), space("default", key_);
  here.out("n", 1);
  Transaction transaction(key_);
  Space within = transaction.of(space);
  within.in("n", 1);
  host_.kill_node();
  ASSERT_EQ(host_.start_node().status, 0);
  EXPECT_NE(code_of([&] { transaction.commit(); }), std::errc());
  EXPECT_EQ(here.rd("n", formal<int>), std::tuple(1));
  within.in("n", 1);
  within.out("n", 2);
  transaction.commit();
  EXPECT_EQ(here.in("n", formal<int>), std::tuple(2));
}

TEST_F(RemoteTest, ASessionThatWasSilentForTooLongIsOverAndTheNextOperationBeginsAnother) {
  Link link(port_);
  std::string key = client_key(host_, "bob", link.address());
  Space space("default", key), here("default", host_.home());
  here.out("leased");
  auto lease = space.in_for(1h, "leased");
  auto waits = space.in_async("never");
  link.set_down(true);
  link.cut();
  here.in("leased");  // it is over
  link.set_down(false);
  EXPECT_EQ(code_of([&] { waits.get(); }), std::errc::connection_reset);
  EXPECT_NE(code_of([&] { lease.acknowledge(); }), std::errc());
  space.out("x");
  EXPECT_EQ(here.count("x"), 1u);
}

// What a lossy link and a node that is killed again and again do to a client's puts and takes: nothing.
void moves_all_once(Space& from, Space& to, int number) {
  for (int i = 0; i < number; ++i) from.out_async("n", i);
  for (int i = 0; i < number; ++i) {
    auto [n] = from.in("n", formal<int>);
    to.out("moved", n);
  }
  for (int i = 0; i < number; ++i) EXPECT_EQ(to.in("moved", i), std::tuple());
  EXPECT_EQ(to.count("moved", any) + from.count("n", any), 0u);
}

TEST_F(RemoteTest, ACutLinkLosesAndRepeatsNothing) {
  Link link(port_, {.cut_after = 60'000, .delay = 500us});
  std::string key = client_key(host_, "bob", link.address());
  Space space("default", key), here("default", host_.home());
  moves_all_once(space, here, 400);
  EXPECT_GT(link.connections(), 2u);
}

TEST_F(RemoteTest, AKilledNodeLosesAndRepeatsNothing) {
  Space space("default", key_), here("default", host_.home());
  std::atomic<bool> done = false;
  std::thread killer([&] {
    for (int i = 0; i < 3 && !done; ++i) {
      uint64_t before = here.count("moved", any);
      while (!done && here.count("moved", any) < before + 40) std::this_thread::yield();
      host_.kill_node();
      EXPECT_EQ(host_.start_node().status, 0);
    }
  });
  moves_all_once(space, here, 300);
  done = true;
  killer.join();
}

// Also of messages of which some requests were answered, behind one that waits.
TEST_F(RemoteTest, ManyOutsUnderWayAreDoneOnceWhenTheNodeIsKilled) {
  constexpr int kNumber = 20'000;
  Space space("default", key_), here("default", host_.home());
  auto waits = space.in_async("last");
  std::thread killer([&] {
    for (uint64_t there : {500, 9000}) {
      while (here.count("n", any) < there) std::this_thread::yield();
      host_.kill_node();
      EXPECT_EQ(host_.start_node().status, 0);
    }
  });
  for (int i = 0; i < kNumber; ++i) space.out_async("n", i);
  space.out_async("last").get();
  waits.get();
  killer.join();
  EXPECT_EQ(here.count("n", any), uint64_t{kNumber});
  for (int i = 0; i < kNumber; ++i) EXPECT_TRUE(here.inp("n", i)) << i;
}

// ---- One list for all, wherever they are

constexpr int kMostSteps = 12;
enum Verb : int { kOut, kIn, kInp, kRd, kRdp, kCount };

const std::vector<Tuple> kTuples = {Tuple{"a", 1}, Tuple{"a", 2}, Tuple{"b", 1}, Tuple{"c", 1}, Tuple{"a", "x"}};
const std::vector<Template> kTemplates = {Template{"a", 1}, Template{"b", AnyFormal{}}, Template{"a", Formal{Type::kInt}},
                                          Template{AnyFormal{}, 1}, Template{AnyFormal{}, AnyFormal{}}};

testing::Event take_step(Space& space, std::mt19937& random) {
  static constexpr testing::Event::Kind kKinds[] = {testing::Event::kOut, testing::Event::kTake, testing::Event::kTake,
                                                    testing::Event::kRead, testing::Event::kRead, testing::Event::kCount};
  static constexpr Verb kVerbs[] = {kOut, kOut, kOut, kOut, kOut, kIn, kIn, kInp, kInp, kInp, kRd, kRdp, kRdp, kCount};
  Verb verb = kVerbs[random() % std::size(kVerbs)];
  testing::Event event{kKinds[verb], 0, 0, kTemplates[random() % kTemplates.size()], {}, 0};
  if (verb == kOut) event.tuple = kTuples[random() % kTuples.size()];
  event.begin = shared::monotonic_ns();
  switch (verb) {
    case kOut: space.out(*event.tuple); break;
    case kIn: event.tuple = space.in(2ms, event.wanted); break;
    case kInp: event.tuple = space.inp(event.wanted); break;
    case kRd: event.tuple = space.rd(2ms, event.wanted); break;
    case kRdp: event.tuple = space.rdp(event.wanted); break;
    case kCount: event.number = space.count(event.wanted); break;
  }
  event.end = shared::monotonic_ns();
  return event;
}

TEST_F(RemoteTest, IsOneListForThoseHereAndElsewhereOverLinksThatAreCut) {
  Link link(port_, {.cut_after = 30'000, .delay = 300us});
  std::string bad = client_key(host_, "bob", link.address());
  for (uint32_t round = 0; round < 25; ++round) {
    std::string name = "list" + std::to_string(round);
    Space::create(name, {}, host_.home());
    std::vector<Space> spaces = {Space(name, host_.home()), Space(name, key_), Space(name, bad), Space(name, bad)};
    std::vector<std::vector<testing::Event>> notes(spaces.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < spaces.size(); ++i)
      threads.emplace_back([&, i] {
        std::mt19937 random(round * 16 + static_cast<uint32_t>(i));
        for (int step = 0; step < kMostSteps; ++step) notes[i].push_back(take_step(spaces[i], random));
      });
    for (auto& thread : threads) thread.join();
    std::vector<testing::Event> all;
    for (auto& mine : notes) all.insert(all.end(), mine.begin(), mine.end());
    ASSERT_TRUE(testing::is_linearizable(all)) << testing::describe(all);
    Space::drop(name, host_.home());
  }
}

// Each of several processes, some of which are killed, moves tokens about: in the end each is there once.
TEST_F(RemoteTest, KilledClientsNeitherLoseNorRepeatATokenThatTheyMove) {
  constexpr int kTokens = 20, kClients = 4;
  Space here("default", host_.home());
  for (int i = 0; i < kTokens; ++i) here.out("token", i, 0);
  auto moves = [&](int rounds) {
    Space space("default", key_);
    Transaction transaction(key_);
    Space within = transaction.of(space);
    for (int i = 0; i < rounds; ++i) {
      auto [token, times] = within.in("token", formal<int>, formal<int>);
      within.out("token", token, times + 1);
      transaction.commit();
    }
  };
  std::vector<pid_t> killed, kept;
  for (int i = 0; i < kClients; ++i) killed.push_back(process([&] { moves(1'000'000); }));
  for (int i = 0; i < kClients; ++i) kept.push_back(process([&] { moves(100); }));
  for (pid_t child : killed) {
    while (here.count("token", any, range(3, 1'000'000)) == 0) std::this_thread::yield();
    kill(child, SIGKILL);
    wait_for(child);
  }
  for (pid_t child : kept) EXPECT_EQ(wait_for(child), 0);
  for (int i = 0; i < kTokens; ++i) here.in("token", i, any);
  EXPECT_FALSE(here.inp("token", any, any));
}

}  // namespace
}  // namespace godwit
