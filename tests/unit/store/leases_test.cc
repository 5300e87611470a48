// Leases: tuples that live for a time, and deliveries that are acknowledged or come back.
#include <sys/wait.h>

#include <thread>

#include "tests/support/audit.hh"
#include "tests/support/space.hh"
#include "tuplespace/shared/futex.hh"

namespace godwit::testing {
namespace {

using namespace std::chrono_literals;
using store::Delivery;

class LeasesTest : public ::testing::Test {
 protected:
  TestSegment test{256ull << 20};
  Store space = Store::create(test.segment(), "s", {}).value();
  store::Desk& desk = **store::Desk::of(test.segment());

  ~LeasesTest() override { expect_all_memory_back(desk); }

  void out_for(store::Time time, std::string_view text) {
    Tuple tuple = tuple_of(text);
    EXPECT_TRUE(space.out_for(time, views_of(tuple)).has_value());
  }
  Delivery take_for(store::Time time, std::string_view wanted) {
    auto delivery = space.in_for(time, AnyOf(wanted).wanted(), nullptr, [](TupleView) { return true; }).value();
    EXPECT_TRUE(delivery.has_value());
    return delivery.value_or(Delivery());
  }
  // Until that has come about, by what is due alone.
  template <class F>
  void until(F f) {
    for (;;) {
      uint32_t mark = store::timer_mark(test.segment());
      uint64_t next = store::expire(desk);
      if (f()) return;
      store::await_due(test.segment(), mark, next, 1s);
    }
  }
};

TEST_F(LeasesTest, AMortalTupleIsThereUntilItsTime) {
  out_for(1h, "(\"a\", 1)");
  out_for(20ms, "(\"a\", 2)");
  out_for(2h, "(\"a\", 3)");
  EXPECT_GE(count(space, "(\"a\", ?)"), 2u);
  until([&] { return space.count(AnyOf("(\"a\", ?)").wanted()).value() == 2; });
  EXPECT_EQ(inp(space, "(\"a\", ?)"), "(\"a\", 1)");
  EXPECT_EQ(inp(space, "(\"a\", ?)"), "(\"a\", 3)");
  EXPECT_EQ(inp(space, "(\"a\", ?)"), "absent");
}

// Nobody takes it away here.
TEST_F(LeasesTest, AMortalTupleIsNotFoundWhenItsTimeIsOver) {
  out_for(0ms, "(\"a\", 1)");
  EXPECT_EQ(rdp(space, "(\"a\", 1)"), "absent");
  EXPECT_EQ(count(space, "(?, ?)"), 0u);
  Store other = Store::create(test.segment(), "other", {}).value();
  EXPECT_EQ(space.collect(other, AnyOf("(?, ?)").wanted()).value(), 0u);
  EXPECT_TRUE(space.all({}).value().empty());
  EXPECT_EQ(store::list_spaces(desk)[0].tuples, 1u);
  (void)store::expire(desk);
  EXPECT_EQ(store::list_spaces(desk)[0].tuples, 0u);
}

TEST_F(LeasesTest, ACopyIsAsMortalAsItsTuple) {
  Store other = Store::create(test.segment(), "other", {}).value();
  out_for(1h, "(\"a\", 1)");
  out_for(20ms, "(\"a\", 2)");
  out(space, "(\"a\", 3)");
  uint64_t copied = space.copy_collect(other, AnyOf("(\"a\", ?)").wanted()).value();
  EXPECT_GE(copied, 2u);
  until([&] { return store::list_spaces(desk)[1].tuples == 2; });
  EXPECT_EQ(inp(other, "(\"a\", ?)"), "(\"a\", 1)");
  EXPECT_EQ(inp(other, "(\"a\", ?)"), "(\"a\", 3)");
  until([&] { return store::list_spaces(desk)[0].tuples == 2; });
}

TEST_F(LeasesTest, WhoWaitsIsGivenAMortalTuple) {
  std::thread taker([&] { EXPECT_EQ(in(space, "(\"a\", 1)"), "(\"a\", 1)"); });
  while (store::list_waits(desk).empty()) std::this_thread::yield();
  out_for(1h, "(\"a\", 1)");
  taker.join();
}

TEST_F(LeasesTest, ATupleThatGoesBackIsAsMortalAsBefore) {
  Store other = Store::create(test.segment(), "other", {}).value();
  out_for(30ms, "(\"a\", 1)");
  (void)space.in(AnyOf("(\"a\", 1)").wanted(), nullptr, [](TupleView) { return false; });
  EXPECT_EQ(space.collect(other, AnyOf("(?, ?)").wanted()).value(), 1u);
  until([&] { return count(other, "(?, ?)") == 0; });
}

TEST_F(LeasesTest, AnAcknowledgedTupleIsGone) {
  out(space, "(\"job\", 1)");
  Delivery delivery = take_for(1h, "(\"job\", ?)");
  EXPECT_EQ(count(space, "(?, ?)"), 0u);
  EXPECT_TRUE(*space.acknowledge(delivery));
  EXPECT_FALSE(*space.acknowledge(delivery));
  EXPECT_FALSE(*space.release(delivery, 0s));
  EXPECT_EQ(count(space, "(?, ?)"), 0u);
}

TEST_F(LeasesTest, AReleasedTupleIsBackAtItsPlace) {
  for (int i = 0; i < 3; ++i) out(space, Tuple{"job", i});
  Delivery first = take_for(1h, "(\"job\", 1)");
  EXPECT_TRUE(*space.release(first, 0s));
  for (int i = 0; i < 2; ++i) EXPECT_EQ(inp(space, "(\"job\", ?)"), to_text(Tuple{"job", i}));
  Delivery later = take_for(1h, "(\"job\", 2)");
  EXPECT_GT(later.number, first.number);
  EXPECT_TRUE(*space.release(later, 20ms));
  EXPECT_FALSE(*space.acknowledge(later));
  until([&] { return count(space, "(\"job\", 2)") == 1; });
}

TEST_F(LeasesTest, AMortalTupleDoesNotComeBackWhenItsOwnTimeIsOver) {
  out_for(1ms, "(\"a\", 1)");
  auto delivery = space.in_for(2ms, AnyOf("(\"a\", 1)").wanted(), nullptr, [](TupleView) { return true; }).value();
  if (!delivery) return;  // it was slow, and the tuple gone before
  until([&] { return store::expire(desk) == ~uint64_t{0}; });
  EXPECT_EQ(store::list_spaces(desk)[0].tuples, 0u);
}

TEST_F(LeasesTest, ALateAcknowledgementIsRefused) {
  out(space, "(\"job\", 1)");
  Delivery late = take_for(1ms, "(\"job\", ?)");
  until([&] { return count(space, "(?, ?)") == 1; });
  EXPECT_FALSE(*space.acknowledge(late));
  Delivery second = take_for(1h, "(\"job\", ?)");
  EXPECT_GT(second.number, late.number);
  EXPECT_FALSE(*space.acknowledge(late));
  EXPECT_TRUE(*space.acknowledge(second));
}

TEST_F(LeasesTest, WhoWaitsIsGivenWhatComesBack) {
  out(space, "(\"job\", 1)");
  Delivery delivery = take_for(1h, "(\"job\", ?)");
  std::thread taker([&] { EXPECT_EQ(in(space, "(\"job\", ?)"), "(\"job\", 1)"); });
  while (store::list_waits(desk).empty()) std::this_thread::yield();
  EXPECT_TRUE(*space.extend(delivery, 0s));
  until([&] { return store::list_waits(desk).empty(); });
  taker.join();
}

TEST_F(LeasesTest, AnExtendedDeliveryLastsLonger) {
  out(space, "(\"job\", 1)");
  Delivery delivery = take_for(1h, "(\"job\", ?)");
  EXPECT_TRUE(*space.extend(delivery, 2h));
  EXPECT_TRUE(*space.extend(delivery, 0s));
  until([&] { return count(space, "(?, ?)") == 1; });
  EXPECT_FALSE(*space.extend(delivery, 1h));
}

TEST_F(LeasesTest, DeliveriesEndWithTheirThreadOrProcess) {
  for (int i = 0; i < 2; ++i) out(space, Tuple{"job", i});
  std::thread([&] { take_for(1h, "(\"job\", 0)"); }).join();
  EXPECT_EQ(count(space, "(?, ?)"), 2u);
  pid_t child = fork();
  if (child == 0) {
    take_for(1h, "(\"job\", 1)");
    raise(SIGKILL);
  }
  waitpid(child, nullptr, 0);
  EXPECT_EQ(count(space, "(?, ?)"), 1u);
  EXPECT_EQ(store::reap(desk), 1u);
  EXPECT_EQ(count(space, "(?, ?)"), 2u);
}

TEST_F(LeasesTest, ADroppedSpaceHasNone) {
  out_for(1h, "(\"a\", 1)");
  out(space, "(\"job\", 1)");
  Delivery delivery = take_for(1h, "(\"job\", ?)");
  ASSERT_TRUE(store::drop_space(desk, "s").has_value());
  EXPECT_FALSE(*space.acknowledge(delivery));
}

TEST_F(LeasesTest, WhatIsSoonerWakesTheTimer) {
  out_for(1h, "(\"a\", 1)");
  uint64_t next = store::expire(desk);
  uint32_t mark = store::timer_mark(test.segment());
  std::thread writer([&] { out_for(1ms, "(\"b\", 1)"); });
  store::await_due(test.segment(), mark, next, 1h);
  writer.join();
  EXPECT_LT(store::expire(desk), next + 1);
}

}  // namespace
}  // namespace godwit::testing
