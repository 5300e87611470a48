// Damaged metadata closes the space that has it. Whoever meets it gets an error, in a bounded time, and nobody else does.
#include <thread>

#include "tests/support/space.hh"
#include "tuplespace/store/groups.hh"
#include "tuplespace/store/reap.hh"
#include "tuplespace/store/root.hh"
#include "tuplespace/store/table.hh"

namespace godwit::testing {
namespace {

class DamageTest : public ::testing::Test {
 protected:
  TestSegment test{64ull << 20};
  Store other = Store::create(test.segment(), "other", {}).value();
  Store space = Store::create(test.segment(), "damaged", {64 << 20, false}).value();  // of one stripe
  store::Desk& desk = **store::Desk::of(test.segment());
  store::Root& root = *store::open_space(desk, "damaged")->root;
  store::Stripe& stripe = root.stripes[0];

  store::Shape& shape() {
    store::Shape* found = nullptr;
    store::for_each_shape(desk, stripe, [&](store::Ref, store::Shape& one) { found = &one; });
    return *found;
  }
  store::Stored& oldest() { return store::stored_at(desk, shape().oldest); }
  store::Ref& newer(store::Stored& stored) { return store::stored_at(desk, stored.newer).newer; }

  // A hundred tuples with an index over both fields.
  void fill() {
    for (int i = 0; i < 100; ++i) out(space, Tuple{"k", i});
    EXPECT_EQ(rdp(space, "(\"k\", 99)"), "(\"k\", 99)");
  }

  Result<bool> take(std::string_view wanted) {
    return space.in(AnyOf(wanted).wanted(), nullptr, [](TupleView) { return true; });
  }
  void expect_closed(const Result<bool>& done) {
    ASSERT_FALSE(done.has_value());
    EXPECT_EQ(done.error().code.value(), EUCLEAN);
    EXPECT_EQ(put(space, Tuple{1}).error().code.value(), EUCLEAN);
    out(other, "(1)");
    EXPECT_EQ(inp(other, "(1)"), "(1)");
    EXPECT_EQ(store::list_spaces(desk)[1].damaged, true);
    EXPECT_EQ(store::list_waits(desk).size(), 0u);
    EXPECT_TRUE(store::drop_space(desk, "damaged").has_value());
    auto anew = Store::create(test.segment(), "damaged", {}).value();
    out(anew, "(2)");
    EXPECT_EQ(inp(anew, "(2)"), "(2)");
  }
};

TEST_F(DamageTest, AReferenceOutOfTheSegment) {
  fill();
  shape().oldest = 0xfffffff0;
  expect_closed(take("(?string, ?int)"));
}

TEST_F(DamageTest, AReferenceIntoAnotherSpace) {
  fill();
  out(other, "(\"k\", 1)");
  store::Root& root = *store::open_space(desk, "other")->root;
  for (store::Stripe& stripe : root.stripes)
    store::for_each_shape(desk, stripe, [&](store::Ref, store::Shape& one) { shape().oldest = one.oldest; });
  expect_closed(take("(?string, ?int)"));
  EXPECT_EQ(inp(other, "(\"k\", 1)"), "(\"k\", 1)");
}

TEST_F(DamageTest, AQueueOfTuplesThatGoesInACircle) {
  fill();
  newer(oldest()) = shape().oldest;
  expect_closed(take("(?string, 50..60)"));
}

TEST_F(DamageTest, AListOfShapesThatGoesInACircle) {
  fill();
  shape().next = desk.ref_of(&shape());
  expect_closed(take("(?int, ?int)"));
}

TEST_F(DamageTest, AChainOfLeadersThatGoesInACircle) {
  fill();
  for (uint32_t hash = 0; hash < 4 * stripe.buckets; hash += 4) {
    store::Bucket& bucket = store::bucket_for(desk, stripe, hash);
    if (!bucket.head) continue;
    bucket.tag = 0;
    desk.at<store::Node>(bucket.head).chained = bucket.head;
  }
  Result<bool> done = false;
  for (int i = 1000; i < 2000 && done; ++i) done = take("(\"k\", " + std::to_string(i) + ")");
  expect_closed(done);
}

TEST_F(DamageTest, ANeighbourThatDoesNotPointBack) {
  fill();
  store::stored_at(desk, oldest().newer).older = 0;
  expect_closed(take("(?string, ?int)"));
}

TEST_F(DamageTest, ALengthBeyondTheBlock) {
  fill();
  oldest().length = 1 << 20;
  expect_closed(take("(?string, ?int)"));
}

TEST_F(DamageTest, AnArityBeyondTheBlock) {
  fill();
  shape().arity = 4096;
  std::vector<Pattern> fields(4096, Pattern(Formal{Type::kInt}));
  shape().types[0] = static_cast<uint8_t>(Type::kInt);
  expect_closed(space.in(AnyOf({Template(fields)}).wanted(), nullptr, [](TupleView) { return true; }));
}

TEST_F(DamageTest, AStripeThatIsNotThere) {
  fill();
  root.stripe_count = 200;
  expect_closed(take("(?string, ?int)"));
}

TEST_F(DamageTest, AFieldThatTheShapeDoesNotHave) {
  fill();
  shape().indexes[0].second = 1000;
  Result<void> done = put(space, Tuple{"k", 1000});
  expect_closed(done ? Result<bool>(true) : Result<bool>(done.error()));
}

TEST_F(DamageTest, WhatIsCollectedIntoADamagedSpaceStays) {
  fill();
  out(other, "(\"k\", 1)");
  shape().hash++;
  shape().next = desk.ref_of(&shape());
  auto done = other.collect(space, AnyOf("(?string, ?int)").wanted());
  EXPECT_EQ(inp(other, "(\"k\", 1)"), "(\"k\", 1)");
  expect_closed(done ? Result<bool>(true) : Result<bool>(done.error()));
}

// A thread whose wait stands in a damaged queue leaves; its next wait, elsewhere, is nobody's neighbour there.
TEST_F(DamageTest, AQueueOfWaitersHurtsNobodyWhoWaitsElsewhere) {
  std::atomic<int> left = 0;
  auto wait_and_leave = [&](bool wild) {
    Wait soon{std::chrono::steady_clock::now() + std::chrono::milliseconds(100), {}};
    (void)space.in(AnyOf(wild ? "(?, 1)" : "(\"w\", 1)").wanted(), &soon, [](TupleView) { return true; });
    ++left;
    EXPECT_EQ(in(other, "(\"go\", ?)").substr(0, 5), "(\"go\"");
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) threads.emplace_back(wait_and_leave, i % 2);
  while (store::list_spaces(desk)[1].waiters != 6) std::this_thread::yield();
  {
    store::Locked locked(desk, root, store::kStripes);
    root.wild.first = root.wild.last;
    for (store::Queue& queue : stripe.queues)
      if (queue.first) desk.at<store::Waiter>(queue.first).next = queue.first;
  }
  EXPECT_EQ(store::list_waits(desk).size(), 0u);
  while (left < 6) std::this_thread::yield();
  for (int i = 0; i < 6; ++i) out(other, Tuple{"go", i});
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(count(other, "(?, ?)"), 0u);
  expect_closed(take("(\"w\", 1)"));
}

TEST_F(DamageTest, ATransactionThatDoesNotEndIsTakenBack) {
  uint32_t before = stripe.leaders;
  EXPECT_THROW(for (uint32_t i = 0; i < 1000; ++i) desk.set(&stripe.leaders, i), store::Damaged);
  EXPECT_EQ(stripe.leaders, before);
  EXPECT_FALSE(shared::set(desk.self, &stripe.leaders, 7u));  // until it is committed, or taken back
  desk.commit();
  EXPECT_EQ(stripe.leaders, before);
}

}  // namespace
}  // namespace godwit::testing
