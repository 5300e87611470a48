// Durable spaces: after the host has restarted there is what was acknowledged, in its order.
#include "tests/support/durable_host.hh"
#include "tuplespace/fault.hh"
#include "tuplespace/store/durability.hh"

namespace godwit::testing {
namespace {

using Texts = std::vector<std::string>;
using std::chrono::hours, std::chrono::milliseconds;

const AnyOf kAll{"(?, ?)"};
Tuple pair(const char* key, int value) { return Tuple{key, value}; }
bool keep_it(TupleView) { return true; }

class SpaceLogTest : public ::testing::Test {
 protected:
  // What is there now is there after a restart of the node, and of the host.
  void expect_lasting(const Texts& expected) {
    EXPECT_EQ(host.tuples("d"), expected);
    host.restart_node();
    EXPECT_EQ(host.tuples("d"), expected);
    host.restart();
    EXPECT_EQ(host.tuples("d"), expected);
    d = host.open("d");
  }
  DurableHost host;
  Store d = host.create("d", true);
};

TEST_F(SpaceLogTest, OutAndIn) {
  for (int i = 0; i < 5; ++i) out(d, pair("k", i));
  EXPECT_EQ(inp(d, "(\"k\", 2)"), "(\"k\", 2)");
  EXPECT_EQ(inp(d, "(\"k\", 7)"), "absent");
  EXPECT_EQ(rdp(d, "(\"k\", ?)"), "(\"k\", 0)");
  expect_lasting({"(\"k\", 0)", "(\"k\", 1)", "(\"k\", 3)", "(\"k\", 4)"});
  out(d, pair("k", 5));
  EXPECT_EQ(inp(d, "(\"k\", ?)"), "(\"k\", 0)");
  expect_lasting({"(\"k\", 1)", "(\"k\", 3)", "(\"k\", 4)", "(\"k\", 5)"});
}

TEST_F(SpaceLogTest, SeveralAtOnceAndOnConditions) {
  const Tuple several[] = {pair("a", 1), pair("b", 2), pair("c", 3)};
  ASSERT_TRUE(d.out_all(several).has_value());
  const Tuple two = pair("b", 20), three = pair("c", 30), four = pair("x", 4);
  EXPECT_TRUE(d.out_if(Store::Condition::kInstead, AnyOf("(\"b\", ?)").wanted(), views_of(two)).value());
  EXPECT_FALSE(d.out_if(Store::Condition::kUnless, AnyOf("(\"c\", ?)").wanted(), views_of(three)).value());
  EXPECT_TRUE(d.out_if(Store::Condition::kUnless, AnyOf("(\"x\", ?)").wanted(), views_of(four)).value());
  expect_lasting({"(\"a\", 1)", "(\"c\", 3)", "(\"b\", 20)", "(\"x\", 4)"});
}

TEST_F(SpaceLogTest, LeasesComeBackUnlessTheyWereAcknowledged) {
  for (int i = 0; i < 4; ++i) out(d, pair("k", i));
  auto first = d.in_for(hours(1), kAll.wanted(), nullptr, keep_it).value(), second = d.in_for(hours(1), kAll.wanted(), nullptr, keep_it).value();
  auto third = d.in_for(hours(1), kAll.wanted(), nullptr, keep_it).value();
  EXPECT_TRUE(d.acknowledge(*first).value());
  EXPECT_TRUE(d.release(*second, {}).value());
  EXPECT_EQ(host.tuples("d"), (Texts{"(\"k\", 1)", "(\"k\", 3)"}));
  host.restart();  // with the third in hand
  EXPECT_EQ(host.tuples("d"), (Texts{"(\"k\", 1)", "(\"k\", 2)", "(\"k\", 3)"}));
}

TEST_F(SpaceLogTest, AMortalTupleGoesAtItsTime) {
  const Tuple lasting = pair("later", 1), over = pair("soon", 2);
  ASSERT_TRUE(d.out_for(hours(1), views_of(lasting)).has_value());
  ASSERT_TRUE(d.out_for(milliseconds(1), views_of(over)).has_value());
  Store watched = d;
  while (rdp(watched, "(\"soon\", ?)") != "absent") continue;
  expect_lasting({"(\"later\", 1)"});
  EXPECT_TRUE(d.in(kAll.wanted(), nullptr, keep_it).value());
  expect_lasting({});
}

TEST_F(SpaceLogTest, RequestsTakeAsInDoes) {
  store::Desk& desk = **store::Desk::of(host.segment());
  ASSERT_NE(store::requests_of(desk), nullptr);
  uint32_t request = d.request(store::Verb::kIn, kAll.wanted(), 0).value();
  out(d, pair("k", 1));
  out(d, pair("k", 2));
  EXPECT_EQ(d.receive(request, keep_it).value(), std::optional(true));
  expect_lasting({"(\"k\", 2)"});
}

TEST_F(SpaceLogTest, TransactionsOverDurableAndOtherSpaces) {
  store::Desk& desk = **store::Desk::of(host.segment());
  Store volatile_space = host.create("v", false);
  for (int i = 0; i < 3; ++i) out(d, pair("k", i)), out(volatile_space, pair("v", i));
  store::Transaction& transaction = *store::begin_transaction(desk);
  const Tuple moved = pair("moved", 1);
  auto exchange = [&] {
    EXPECT_TRUE(d.in_within(transaction, kAll.wanted(), nullptr, keep_it).value());
    EXPECT_TRUE(volatile_space.in_within(transaction, kAll.wanted(), nullptr, keep_it).value());
    EXPECT_TRUE(d.out_within(transaction, views_of(moved)).has_value());
    EXPECT_TRUE(volatile_space.out_within(transaction, views_of(moved)).has_value());
  };
  exchange();
  EXPECT_TRUE(Store::commit(host.segment(), transaction).has_value());
  exchange();
  EXPECT_TRUE(store::roll_back(desk, transaction));
  EXPECT_EQ(host.tuples("v"), (Texts{"(\"v\", 1)", "(\"v\", 2)", "(\"moved\", 1)"}));
  expect_lasting({"(\"k\", 1)", "(\"k\", 2)", "(\"moved\", 1)"});
  EXPECT_EQ(host.tuples("v"), std::nullopt);
}

TEST_F(SpaceLogTest, CollectInBothDirections) {
  Store volatile_space = host.create("v", false);
  for (int i = 0; i < 3; ++i) out(d, pair("d", i)), out(volatile_space, pair("v", i));
  EXPECT_EQ(d.collect(volatile_space, AnyOf("(\"d\", 1)").wanted()).value(), 1u);
  EXPECT_EQ(volatile_space.collect(d, AnyOf("(\"v\", 2)").wanted()).value(), 1u);
  EXPECT_EQ(volatile_space.copy_collect(d, AnyOf("(\"v\", 0)").wanted()).value(), 1u);
  EXPECT_EQ(host.tuples("v"), (Texts{"(\"v\", 0)", "(\"v\", 1)", "(\"d\", 1)"}));
  expect_lasting({"(\"d\", 0)", "(\"d\", 2)", "(\"v\", 2)", "(\"v\", 0)"});
}

TEST_F(SpaceLogTest, SpacesAreMadeAndDroppedForGood) {
  out(d, pair("old", 1));
  store::Desk& desk = **store::Desk::of(host.segment());
  Store other = host.create("other", true);
  out(other, pair("k", 1));
  ASSERT_TRUE(store::drop_space(desk, "d").has_value());
  d = Store::create(host.segment(), "d", {.capacity = 100'000, .blocks_when_full = true, .durable = true}).value();
  out(d, pair("new", 1));
  ASSERT_TRUE(store::drop_space(desk, "other").has_value());
  expect_lasting({"(\"new\", 1)"});
  EXPECT_EQ(host.tuples("other"), std::nullopt);
  for (const SpaceFacts& space : store::list_spaces(**store::Desk::of(host.segment()))) {
    if (space.name != "d") continue;
    EXPECT_TRUE(space.durable && space.blocks_when_full);
    EXPECT_EQ(space.capacity, 100'000u);
  }
}

// As on a host whose processor's clock has begun anew.
TEST_F(SpaceLogTest, AgesGoOnWhereTheyWere) {
  host.segment().header().log_age = uint64_t{1} << 62;
  out(d, pair("old", 0));
  host.restart();
  d = host.open("d");
  const char* const keys[] = {"a", "b", "c", "d", "e", "f"};  // of several stripes
  for (const char* key : keys) out(d, pair(key, 1));
  EXPECT_EQ(inp(d, "(\"c\", ?)"), "(\"c\", 1)");
  expect_lasting({"(\"old\", 0)", "(\"a\", 1)", "(\"b\", 1)", "(\"d\", 1)", "(\"e\", 1)", "(\"f\", 1)"});
}

TEST_F(SpaceLogTest, TheCallsOfADurableSpaceAreDurable) {
  Store calls = host.create("d.eval", false), other = host.create("e.eval", false);
  EXPECT_TRUE(calls.is_durable());
  EXPECT_FALSE(other.is_durable());
}

TEST_F(SpaceLogTest, AFailedSyncIsToldToWhoWaitsAndTheNextNodeGoesOn) {
  host.stop();
  fault_in_force().set("journal.sync:2:error");
  ASSERT_TRUE(host.start());
  out(d, pair("k", 1));
  EXPECT_EQ(put(d, pair("k", 2)).error().code, std::errc::io_error);
  EXPECT_EQ(put(d, pair("k", 3)).error().code, std::errc::io_error);
  EXPECT_EQ(d.in(kAll.wanted(), nullptr, keep_it).error().code, std::errc::io_error);
  host.stop();
  fault_in_force().set(nullptr);
  ASSERT_TRUE(host.start());
  out(d, pair("k", 4));
  expect_lasting({"(\"k\", 1)", "(\"k\", 2)", "(\"k\", 4)"});  // of the second nobody knew; in the segment it was there
}

TEST_F(SpaceLogTest, ALogThatEndsBeforeWhatWasAcknowledgedCountsAndIsToldOf) {
  for (int i = 0; i < 3; ++i) out(d, pair("k", i));
  host.stop();
  std::filesystem::resize_file(host.log(), 200);
  ASSERT_TRUE(host.start());
  EXPECT_NE(host.space_log().remark().find("as it has them"), std::string::npos) << host.space_log().remark();
  EXPECT_LT(host.tuples("d")->size(), 3u);
}

TEST(SpaceLogSnapshots, StandForWhatWasThereBefore) {
  DurableHost host({.snapshot_bytes = 4096});
  Store d = host.create("d", true);
  Texts expected;
  for (int i = 0; i < 300; ++i) out(d, Tuple{"k", i, Bytes{std::string(200, 'x')}});
  for (int i = 0; i < 290; ++i) EXPECT_NE(inp(d, "(\"k\", ?, ?)"), "absent");
  while (!std::filesystem::exists(host.folder() + "/snapshot")) out(d, pair("more", 1));
  auto there = host.tuples("d");
  EXPECT_GE(there->size(), 10u);
  host.restart();
  EXPECT_EQ(host.tuples("d"), there);
}

}  // namespace
}  // namespace godwit::testing
