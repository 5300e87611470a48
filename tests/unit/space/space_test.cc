// The public Space, on a host of its own with a real node: in its memory, and by a client's key.
#include "tuplespace/space.hh"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "support/client_key.hh"
#include "tuplespace/text.hh"
#include "tuplespace/transaction.hh"

namespace godwit {
namespace {

using namespace std::chrono_literals;
using namespace test;

class SpaceTest : public ::testing::TestWithParam<bool> {  // whether from elsewhere
 protected:
  static void SetUpTestSuite() {
    setenv("GODWIT_EXECUTABLE", GODWIT_BINARY, 1);
    host_ = new TestHost("here");
    ASSERT_EQ(start_node_for_clients(*host_).status, 0);
    key_ = client_key(*host_, "alice");
  }
  static void TearDownTestSuite() { delete host_; }
  static void set_home() { setenv("GODWIT_HOME", GetParam() ? key_.c_str() : host_->home().c_str(), 1); }

  static std::errc code_of(const std::function<void()>& f) {
    try {
      f();
    } catch (const Failure& failure) {
      return static_cast<std::errc>(failure.code().value());
    }
    return {};
  }
  static std::string name() {
    std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    name[name.find('/')] = '.';
    return name;
  }
  static Space made() {
    set_home();
    return Space::create(name());
  }

  // Until so many wait in the test's space.
  static void until_wait(uint32_t number) {
    auto waiters = [] {
      for (const SpaceFacts& facts : Space::list())
        if (facts.name == name()) return facts.waiters;
      return 0u;
    };
    while (waiters() != number) std::this_thread::yield();
  }

  static inline TestHost* host_;
  static inline std::string key_;
  Space space_ = made();
};
INSTANTIATE_TEST_SUITE_P(Spaces, SpaceTest, ::testing::Bool(), [](const auto& info) { return info.param ? "Elsewhere" : "Here"; });

TEST_P(SpaceTest, GivesTheValuesOfFormalsInOrder) {
  space_.out("task", 42, 3.5, "text", Bytes{std::string("\0\xff", 2)}, true, Nil{}, Tuple{1, "nested"});
  auto [n, x, text, bytes, flag, nothing, nested] =
      space_.rd("task", formal<int>, formal<double>, formal<std::string>, formal<Bytes>, formal<bool>, formal<Nil>, formal<Tuple>);
  static_assert(std::is_same_v<decltype(n), int64_t> && std::is_same_v<decltype(x), double>);
  EXPECT_EQ(n, 42);
  EXPECT_EQ(x, 3.5);
  EXPECT_EQ(text, "text");
  EXPECT_EQ(bytes.data, std::string("\0\xff", 2));
  EXPECT_TRUE(flag);
  EXPECT_TRUE(identical(nested, Tuple{1, "nested"}));
  EXPECT_TRUE(space_.inp("task", any, any, any, any, any, any, any));
}

TEST_P(SpaceTest, ActualsAndConstraintsNarrowWhatMatches) {
  for (int i = 0; i < 10; ++i) space_.out("k" + std::to_string(i % 2), i);
  EXPECT_EQ(space_.in("k1", formal<int>), std::tuple(1));
  EXPECT_EQ(space_.in(prefix("k"), range(5, 7)), std::tuple("k1", 5));
  auto [key, n] = space_.in(any, one_of(8, 6));
  EXPECT_EQ(*key.get<std::string>(), "k0");
  EXPECT_EQ(n, 6);
  space_.out("n", Tuple{"inner", 7});
  auto [inner] = space_.in("n", nested(Template{"inner", AnyFormal{}}));
  EXPECT_TRUE(identical(inner, Tuple{"inner", 7}));
  EXPECT_EQ(space_.count(any, any), 7u);
  EXPECT_EQ(space_.count("k0", any), 4u);
}

TEST_P(SpaceTest, AFieldOfAnyIntegerTypeIsAnInt) {
  space_.out(uint8_t{1}, int16_t{-2}, size_t{3}, 4ull, 1.5f);
  EXPECT_EQ(space_.in(1, -2, formal<unsigned>, formal<long>, formal<float>), std::tuple(3, 4, 1.5));
  EXPECT_EQ(code_of([&] { space_.out(~uint64_t{0}); }), std::errc::value_too_large);
  EXPECT_EQ(space_.count(any), 0u);
}

TEST_P(SpaceTest, BytesComeFromAnySpanOfBytes) {
  std::vector<double> row{1.5, -2, 3};
  space_.out("row", std::as_bytes(std::span(row)));
  auto [bytes] = space_.in("row", formal<Bytes>);
  ASSERT_EQ(bytes.data.size(), 24u);
  EXPECT_EQ(std::memcmp(bytes.data.data(), row.data(), 24), 0);
}

TEST_P(SpaceTest, WhatIsAbsentIsNullopt) {
  EXPECT_FALSE(space_.inp("nothing"));
  EXPECT_FALSE(space_.rdp("nothing", formal<int>));
  EXPECT_FALSE(space_.in(1ms, "nothing"));
  EXPECT_FALSE(space_.rd(Deadline::min(), "nothing"));
  std::stop_source stop;
  stop.request_stop();
  EXPECT_FALSE(space_.in(stop.get_token(), "nothing"));
}

TEST_P(SpaceTest, AStopEndsAWait) {
  std::stop_source stop;
  std::thread stopper([&] {
    auto waits = [] {
      for (const SpaceFacts& facts : Space::list())
        if (facts.name == name()) return facts.waiters > 0;
      return false;
    };
    while (!waits()) {}
    stop.request_stop();
  });
  EXPECT_FALSE(space_.in(stop.get_token(), "never"));
  stopper.join();
}

TEST_P(SpaceTest, TuplesAndTemplatesOfShapesThatRunTimeDecides) {
  space_.out(Tuple{"a", 1});
  space_.out(Tuple{"b"});
  std::vector<Template> either{Template{"b"}, Template{"a", AnyFormal{}}};
  EXPECT_EQ(space_.count(either), 2u);
  EXPECT_EQ(to_text(space_.in(either)), "(\"a\", 1)");
  EXPECT_EQ(to_text(*space_.rdp(either)), "(\"b\")");
  EXPECT_EQ(to_text(space_.in(Template{"b"})), "(\"b\")");
  EXPECT_FALSE(space_.inp(either));
  EXPECT_FALSE(space_.rd(1ms, either));
}

TEST_P(SpaceTest, CollectMovesAndCopies) {
  Space other = Space::create(name() + ".other");
  for (int i = 0; i < 5; ++i) space_.out("c", i);
  EXPECT_EQ(space_.copy_collect(other, "c", range(0, 1)), 2u);
  EXPECT_EQ(space_.collect(other, "c", any), 5u);
  EXPECT_EQ(space_.count("c", any), 0u);
  for (int expected : {0, 1, 0, 1, 2, 3, 4}) EXPECT_EQ(other.in("c", formal<int>), std::tuple(expected));
}

TEST_P(SpaceTest, ErrorsAreFailuresThatSayWhatToDo) {
  EXPECT_EQ(code_of([] { Space("no such space"); }), std::errc::no_such_file_or_directory);
  EXPECT_EQ(code_of([] { Space::create(name()); }), std::errc::file_exists);
  EXPECT_EQ(code_of([] { Space::create("net"); }), std::errc::invalid_argument);
  EXPECT_EQ(code_of([&] { space_.out("\xff"); }), std::errc::illegal_byte_sequence);
  EXPECT_EQ(code_of([&] { space_.out(Tuple{1, Tuple{"\xff"}}); }), std::errc::illegal_byte_sequence);
  Tuple deep{1};
  for (size_t i = 2; i < kMaxTupleNesting; ++i) deep = Tuple(std::vector<Field>{Field(deep)});
  space_.out("deep", deep);
  EXPECT_EQ(code_of([&] { space_.out("deep", Tuple(std::vector<Field>{Field(deep)})); }), std::errc::message_size);
  Space small = Space::create(name() + ".small", {.capacity = 4096});
  EXPECT_EQ(code_of([&] { for (int i = 0;; ++i) small.out("fill", i); }), std::errc::no_space_on_device);
  Space blocking = Space::create(name() + ".blocking", {.capacity = 4096, .blocks_when_full = true});
  while (blocking.out(0s, "fill")) {}
  EXPECT_GT(blocking.count("fill"), 5u);
  Space::drop(name() + ".small");
  EXPECT_EQ(code_of([&] { small.out("fill", 1); }), GetParam() ? std::errc::no_such_file_or_directory : std::errc::identifier_removed);
}

TEST_P(SpaceTest, TheTrafficOfNoProgramIsEmpty) {
  Space net("net", host_->home());
  EXPECT_EQ(code_of([&] { net.out("stream"); }), std::errc::operation_not_permitted);
  EXPECT_EQ(code_of([&] { (void)net.inp("stream"); }), std::errc::operation_not_permitted);
  EXPECT_EQ(net.count("stream", any, any, any, any), 0u);
  EXPECT_FALSE(net.rdp("stream", any, any, any, any));
  EXPECT_FALSE(net.rd(1ms, "stream", any, any, any, any));
  std::stop_source stop;
  std::thread stopper([&] { stop.request_stop(); });
  EXPECT_FALSE(net.rd(stop.get_token(), "stream", any, any, any, any));
  stopper.join();
  Space here(name(), host_->home());
  EXPECT_EQ(net.copy_collect(here, "stream", any, any, any, any), 0u);
}

TEST_P(SpaceTest, RequestsAreServedInTheirOrder) {
  auto first = space_.in_async("job", formal<int>), second = space_.in_async("job", formal<int>);
  auto other = space_.in_async("other", formal<std::string>);
  auto look = space_.rd_async("look", formal<std::string>);
  EXPECT_FALSE(first.ready());
  EXPECT_FALSE(first.get(0s));
  space_.out("look", "x");
  EXPECT_EQ(look.get(), std::tuple("x"));
  space_.out("other", "y");
  EXPECT_EQ(other.get(), std::tuple("y"));
  space_.out("job", 1);
  EXPECT_EQ(first.get(), std::tuple(1));
  space_.out("job", 2);
  EXPECT_EQ(second.get(1min), std::tuple(2));
  EXPECT_THROW(second.get(), Failure);
}

TEST_P(SpaceTest, ARequestKeepsItsPlaceInLine) {
  auto first = space_.in_async("job", formal<int>);
  until_wait(1);
  std::tuple<int64_t> second;
  std::thread waiting([&] { second = space_.in("job", formal<int>); });
  until_wait(2);
  auto third = space_.in_async("job", formal<int>);
  until_wait(3);
  for (int i = 1; i <= 3; ++i) space_.out("job", i);
  waiting.join();
  EXPECT_EQ(first.get(), std::tuple(1));
  EXPECT_EQ(second, std::tuple(2));
  EXPECT_EQ(third.get(), std::tuple(3));
}

// Its text is not UTF-8: in the store it is bytes like others.
TEST_P(SpaceTest, AWaitForAPieceOfACharacterIsAnswered) {
  std::tuple<std::string> got;
  std::thread waiting([&] { got = space_.in(prefix("\xc3")); });
  until_wait(1);
  space_.out("\xc3\xa4");
  waiting.join();
  EXPECT_EQ(got, std::tuple("\xc3\xa4"));
}

TEST_P(SpaceTest, AllWhoLookSeeWhatComesAndOneTakesIt) {
  auto first = space_.rd_async("x", formal<int>), second = space_.rd_async("x", formal<int>);
  auto taker = space_.in_async("x", formal<int>);
  space_.out("x", 1);
  EXPECT_EQ(taker.get(), std::tuple(1));
  space_.out("x", 2);
  EXPECT_LE(std::get<0>(first.get()), 2);
  EXPECT_LE(std::get<0>(second.get()), 2);
}

TEST_P(SpaceTest, PutsThatAreNotWaitedForComeInTheirOrder) {
  std::vector<Pending<void>> pending;
  for (int i = 0; i < 5000; ++i) pending.push_back(space_.out_async("n", i));
  auto last = space_.out_async(Tuple{"n", 5000});
  EXPECT_TRUE(last.get(1h));
  EXPECT_TRUE(last.ready());
  for (auto& one : pending) one.get();
  for (int i = 0; i <= 5000; ++i) EXPECT_EQ(space_.in("n", formal<int>), std::tuple(i));
  Space small = Space::create(name() + ".small", {.capacity = 4096});
  EXPECT_EQ(code_of([&] { for (;;) small.out_async("fill").get(); }), std::errc::no_space_on_device);
}

TEST_P(SpaceTest, OneIsUniqueAndOneIsSwapped) {
  EXPECT_TRUE(space_.out_unique({"leader", any}, "leader", 1));
  EXPECT_FALSE(space_.out_unique({"leader", any}, Tuple{"leader", 2}));
  EXPECT_FALSE(space_.swap({"leader", 2}, "leader", 3));
  EXPECT_TRUE(space_.swap({"leader", formal<int>}, "leader", 3));
  EXPECT_EQ(space_.in("leader", formal<int>), std::tuple(3));
  EXPECT_EQ(code_of([&] { space_.out_unique({"x"}, "\xff"); }), std::errc::illegal_byte_sequence);
}

TEST_P(SpaceTest, ALeasedTupleIsAcknowledgedOrComesBack) {
  space_.out("job", 1);
  uint64_t first;
  {
    auto job = space_.in_for(1h, "job", formal<int>);
    auto [n] = *job;
    EXPECT_EQ(n, 1);
    first = job.number();
    EXPECT_FALSE(space_.inp_for(1h, "job", any));
  }
  auto job = *space_.in_for(1ms, Wait(1h), "job", formal<int>);  // and nobody gives it back by hand
  EXPECT_GT(job.number(), first);
  EXPECT_EQ(space_.rd("job", formal<int>), std::tuple(1));
  EXPECT_EQ(code_of([&] { job.acknowledge(); }), std::errc::timed_out);
  auto last = space_.in_for(1ms, "job", formal<int>);
  last.extend(1h);
  last.acknowledge();
  EXPECT_EQ(code_of([&] { last.release(); }), std::errc::timed_out);
  EXPECT_EQ(space_.count("job", any), 0u);
  EXPECT_EQ(code_of([&] { (void)Space("net", host_->home()).inp_for(1s, any); }), std::errc::operation_not_supported);
}

TEST_P(SpaceTest, AMortalTupleGoesByItself) {
  space_.out_for(1ms, "brief");
  auto tuples = [] {
    for (const SpaceFacts& facts : Space::list())
      if (facts.name == name()) return facts.tuples;
    return uint64_t{0};
  };
  while (tuples()) std::this_thread::yield();
  EXPECT_FALSE(space_.rdp("brief"));
}

TEST_P(SpaceTest, ATransactionHappensAtOneMomentOrNotAtAll) {
  Space done = Space::create(name() + ".done");
  space_.out("task", 3);
  Transaction transfer;
  Space from = transfer.of(space_), to = transfer.of(done);
  auto [n] = from.in("task", formal<int>);
  to.out("result", n * n);
  EXPECT_EQ(to.count("result", any), 1u);
  EXPECT_EQ(space_.count("task", any) + done.count("result", any), 0u);
  transfer.roll_back();
  EXPECT_EQ(space_.count("task", any), 1u);
  EXPECT_EQ(from.in("task", formal<int>), std::tuple(3));
  to.out("result", 9);
  transfer.commit();
  EXPECT_EQ(space_.count("task", any), 0u);
  EXPECT_EQ(done.in("result", formal<int>), std::tuple(9));
  space_.out("task", 4);
  {
    Transaction forgotten;
    Space within = forgotten.of(space_);
    EXPECT_EQ(within.rd(1min, "task", formal<int>), std::tuple(4));
    EXPECT_TRUE(within.inp("task", any));
    EXPECT_FALSE(space_.inp("task", any));
    std::thread([&] {
      EXPECT_EQ(code_of([&] { within.out("x"); }), std::errc::operation_not_permitted);
      EXPECT_EQ(code_of([&] { forgotten.commit(); }), std::errc::operation_not_permitted);
    }).join();
    EXPECT_EQ(code_of([&] { within.collect(done, any); }), std::errc::operation_not_supported);
    EXPECT_EQ(code_of([&] { (void)forgotten.of(Space("net", host_->home())); }), std::errc::operation_not_supported);
  }
  EXPECT_TRUE(space_.inp("task", 4));
}

TEST_P(SpaceTest, AForkedChildLeavesItsParentsWaitsAsTheyAre) {
  auto pending = space_.in_async("later", formal<int>);
  Subscription coming = space_.subscribe("later", formal<int>);
  pid_t child = fork();
  if (child == 0) {
    { Subscription gone = std::move(coming); }
    { auto withdrawn = std::move(pending); }
    { Space moved = std::move(space_); }
    _exit(0);
  }
  EXPECT_EQ(wait_for(child), 0);
  space_.out("later", 1);
  EXPECT_EQ(pending.get(), std::tuple(1));
  EXPECT_EQ(to_text(coming.next()), "(\"later\", 1)");
}

// Though it never used the space, and so has no standing of its own.
TEST_P(SpaceTest, AForkedChildThatExitsLeavesItsParentsStandingAsItIs) {
  Subscription coming = space_.subscribe("later", formal<int>);
  pid_t child = fork();
  if (child == 0) exit(0);
  EXPECT_EQ(wait_for(child), 0);
  space_.out("later", 1);
  EXPECT_EQ(to_text(coming.next()), "(\"later\", 1)");
  std::thread([&] { EXPECT_EQ(space_.in("later", formal<int>), std::tuple(1)); }).join();
}

TEST_P(SpaceTest, AnIntegerThatIsTooLargeIsRefusedWhereItIsMade) {
  EXPECT_EQ(code_of([&] { space_.out(~0ull); }), std::errc::value_too_large);
  EXPECT_EQ(code_of([&] { Tuple{~0ull}; }), std::errc::value_too_large);
}

TEST_P(SpaceTest, AWithdrawnRequestTakesNothing) {
  {
    auto given_up = space_.in_async("job", formal<int>);
    auto kept = space_.in_async("start");
    space_.out("start");
    kept.get();  // so the library's thread waits by now
  }
  for (int i = 0; i < 1000; ++i) {
    { auto given_up = space_.in_async("job", formal<int>); }
    space_.out("job", i);
    EXPECT_TRUE(space_.inp("job", i));
  }
}

TEST_P(SpaceTest, ASubscriptionShowsWhatComes) {
  space_.out("seen", 0);
  Subscription coming = space_.subscribe("seen", formal<int>);
  EXPECT_FALSE(coming.next(0s));
  space_.out("seen", 1);
  space_.in("seen", 1);
  space_.out("other", 2);
  EXPECT_EQ(to_text(coming.next()), "(\"seen\", 1)");
  EXPECT_FALSE(coming.next(0s));
  EXPECT_EQ(coming.missed(), 0u);
  Subscription traffic = Space("net", host_->home()).subscribe("stream", any, any, any, any);
  EXPECT_FALSE(traffic.next(0s));
}

TEST_P(SpaceTest, RequestsOfADroppedSpaceFail) {
  auto pending = space_.in_async("never");
  Space::drop(name());
  EXPECT_EQ(code_of([&] { pending.get(); }), std::errc::identifier_removed);
}

TEST(SpaceOfThisHost, IsSharedByThreadsAndAForkedChild) {
  setenv("GODWIT_EXECUTABLE", GODWIT_BINARY, 1);
  TestHost host("here");
  Space space(kDefaultSpace, host.home());
  std::vector<std::thread> workers;
  for (int i = 0; i < 4; ++i)
    workers.emplace_back([&] {
      for (;;) {
        auto [n] = space.in("task", formal<int>);
        if (n < 0) return;
        space.out("result", 2 * n);
      }
    });
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < 100; ++i) space.out("task", i);
    _exit(0);
  }
  int64_t sum = 0;
  for (int i = 0; i < 100; ++i) sum += std::get<0>(space.in("result", formal<int>));
  EXPECT_EQ(sum, 9900);
  for (size_t i = 0; i < workers.size(); ++i) space.out("task", -1);
  for (auto& worker : workers) worker.join();
  EXPECT_EQ(wait_for(child), 0);
}

TEST_P(SpaceTest, IsOfTheHostThatIsNamed) {
  TestHost there("there");
  Space far = Space::create("elsewhere", {}, there.home());
  far.out("x");
  EXPECT_EQ(code_of([] { Space("elsewhere"); }), std::errc::no_such_file_or_directory);
  EXPECT_EQ(code_of([&] { space_.collect(far, "x"); }), std::errc::operation_not_supported);
  EXPECT_EQ(Space("elsewhere", there.home()).count("x"), 1u);
  EXPECT_EQ(Space::list(there.home()).size(), 1u);
}

}  // namespace
}  // namespace godwit
