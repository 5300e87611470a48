// Transactions: all at one moment, or nothing.
#include <sys/wait.h>

#include <thread>

#include "tests/support/audit.hh"
#include "tests/support/space.hh"
#include "tuplespace/store/one_moment.hh"

namespace godwit::testing {
namespace {

class TransactionsTest : public ::testing::Test {
 protected:
  TestSegment test{256ull << 20};
  Store a = Store::create(test.segment(), "a", {}).value(), b = Store::create(test.segment(), "b", {}).value();
  store::Desk& desk = **store::Desk::of(test.segment());
  store::Transaction& transaction = *store::begin_transaction(desk);

  ~TransactionsTest() override {
    EXPECT_TRUE(store::end_transactions(desk, *desk.bench));
    expect_all_memory_back(desk);
  }

  // A process decides to put ten tuples into b, and is killed before it has put one.
  void die_in_a_commit() {
    pid_t child = fork();
    if (child == 0) {
      store::Desk& own = **store::Desk::of(test.segment());
      store::Transaction& half = *store::begin_transaction(own);
      for (int i = 0; i < 10; ++i) (void)b.out_within(half, views_of(Tuple{i, i}));
      store::Root& root = *store::open_space(own, "b")->root;
      store::Locked locked(own, root, store::kStripes);
      std::vector<store::Stripe*> all;
      for (store::Stripe& stripe : locked.stripes()) all.push_back(&stripe);
      store::OneMoment moment(own, all);
      own.set(&half.decided_at, ~uint64_t{0});
      own.set(&half.progress, store::Progress::kDecided);
      own.commit();
      raise(SIGKILL);
    }
    waitpid(child, nullptr, 0);
  }

  void put_within(Store& space, const Tuple& tuple) { EXPECT_TRUE(space.out_within(transaction, views_of(tuple)).has_value()); }
  std::string inp_within(Store& space, std::string_view wanted) {
    std::string got = "absent";
    EXPECT_TRUE(space.in_within(transaction, AnyOf(wanted).wanted(), nullptr, [&](TupleView tuple) {
      return got = to_text(to_tuple(tuple)), true;
    }).has_value());
    return got;
  }
  std::string rdp_within(Store& space, std::string_view wanted) {
    std::string got = "absent";
    EXPECT_TRUE(space.rd_within(transaction, AnyOf(wanted).wanted(), nullptr, [&](TupleView tuple) {
      return got = to_text(to_tuple(tuple)), true;
    }).has_value());
    return got;
  }
  std::error_code commit() {
    auto no = store::commit(desk, transaction);
    return no ? no->code : std::error_code();
  }
};

TEST_F(TransactionsTest, WhatIsPutComesWithTheCommit) {
  put_within(a, Tuple{"x", 1});
  put_within(b, Tuple{"y", 2});
  put_within(a, Tuple{"x", 3});
  EXPECT_EQ(count(a, "(?, ?)") + count(b, "(?, ?)"), 0u);
  EXPECT_FALSE(commit());
  EXPECT_EQ(inp(a, "(\"x\", ?)"), "(\"x\", 1)");
  EXPECT_EQ(inp(a, "(\"x\", ?)"), "(\"x\", 3)");
  EXPECT_EQ(inp(b, "(\"y\", ?)"), "(\"y\", 2)");
  EXPECT_FALSE(commit());  // of nothing
}

TEST_F(TransactionsTest, WhatIsTakenIsNobodysUntilItEnds) {
  for (int i = 0; i < 3; ++i) out(a, Tuple{"x", i});
  EXPECT_EQ(inp_within(a, "(\"x\", 1)"), "(\"x\", 1)");
  EXPECT_EQ(inp_within(a, "(\"x\", ?)"), "(\"x\", 0)");
  EXPECT_EQ(count(a, "(?, ?)"), 1u);
  EXPECT_TRUE(store::roll_back(desk, transaction));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(inp(a, "(\"x\", ?)"), to_text(Tuple{"x", i}));
  out(a, "(\"x\", 7)");
  EXPECT_EQ(inp_within(a, "(\"x\", ?)"), "(\"x\", 7)");
  EXPECT_FALSE(commit());
  EXPECT_EQ(inp(a, "(\"x\", ?)"), "absent");
}

TEST_F(TransactionsTest, SeesWhatItHasPutItself) {
  out(a, "(\"x\", 0)");
  put_within(a, Tuple{"x", 1});
  put_within(a, Tuple{"x", 2});
  put_within(a, Tuple{"x", 3});
  put_within(b, Tuple{"x", 4});
  EXPECT_EQ(a.count_within(transaction, AnyOf("(\"x\", ?)").wanted()).value(), 4u);
  EXPECT_EQ(inp_within(a, "(\"x\", ?)"), "(\"x\", 0)");  // what is there comes first
  EXPECT_EQ(rdp_within(a, "(\"x\", 2..3)"), "(\"x\", 2)");
  EXPECT_EQ(inp_within(a, "(\"x\", 3)"), "(\"x\", 3)");
  EXPECT_EQ(inp_within(a, "(\"x\", ?)"), "(\"x\", 1)");
  put_within(a, Tuple{"x", 5});
  EXPECT_FALSE(commit());
  EXPECT_EQ(inp(a, "(\"x\", ?)"), "(\"x\", 2)");
  EXPECT_EQ(inp(a, "(\"x\", ?)"), "(\"x\", 5)");
  EXPECT_EQ(inp(b, "(\"x\", ?)"), "(\"x\", 4)");
}

TEST_F(TransactionsTest, ServesThoseWhoWait) {
  std::thread taker([&] { EXPECT_EQ(in(b, "(\"y\", ?)"), "(\"y\", 1)"); });
  while (store::list_waits(desk).empty()) std::this_thread::yield();
  put_within(b, Tuple{"y", 1});
  EXPECT_EQ(store::list_waits(desk).size(), 1u);
  EXPECT_FALSE(commit());
  taker.join();
}

TEST_F(TransactionsTest, WhatGoesBackServesThoseWhoWait) {
  out(a, "(\"x\", 1)");
  EXPECT_NE(inp_within(a, "(\"x\", ?)"), "absent");
  std::thread taker([&] { EXPECT_EQ(in(a, "(\"x\", ?)"), "(\"x\", 1)"); });
  while (store::list_waits(desk).empty()) std::this_thread::yield();
  EXPECT_TRUE(store::roll_back(desk, transaction));
  taker.join();
}

TEST_F(TransactionsTest, WaitsForWhatItTakes) {
  std::thread writer([&] {
    while (store::list_waits(**store::Desk::of(test.segment())).empty()) std::this_thread::yield();
    out(a, "(\"x\", 1)");
  });
  Wait wait;
  put_within(a, Tuple{"other"});
  auto got = a.in_within(transaction, AnyOf("(\"x\", ?)").wanted(), &wait, [](TupleView) { return true; });
  writer.join();
  EXPECT_TRUE(got.has_value() && *got);
  EXPECT_TRUE(store::roll_back(desk, transaction));
  EXPECT_EQ(inp(a, "(\"x\", ?)"), "(\"x\", 1)");
  EXPECT_EQ(inp(a, "(\"other\")"), "absent");
}

TEST_F(TransactionsTest, ThatCannotBeIsAsItWas) {
  Store small = Store::create(test.segment(), "small", {2000, false}).value();
  out(small, Tuple{"there", std::string(1000, 'x')});
  out(a, "(\"x\", 1)");
  EXPECT_NE(inp_within(a, "(\"x\", ?)"), "absent");
  put_within(b, Tuple{"y", 2});
  put_within(small, Tuple{"more", std::string(1000, 'x')});
  EXPECT_EQ(commit(), std::errc::no_space_on_device);
  EXPECT_EQ(count(b, "(?, ?)") + count(a, "(?, ?)"), 0u);
  EXPECT_NE(inp(small, "(\"there\", ?)"), "absent");
  EXPECT_FALSE(commit());
  EXPECT_EQ(count(b, "(?, ?)") + count(small, "(\"more\", ?)"), 2u);
  for (int i = 0; i < 3; ++i) put_within(small, Tuple{"never", std::string(1000, 'x')});
  EXPECT_EQ(commit(), std::errc::message_size);
  EXPECT_TRUE(store::roll_back(desk, transaction));
}

TEST_F(TransactionsTest, OfADroppedSpaceFailsAndWhatWasTakenThereIsGone) {
  out(a, "(\"x\", 1)");
  out(b, "(\"y\", 1)");
  EXPECT_NE(inp_within(a, "(\"x\", ?)"), "absent");
  EXPECT_NE(inp_within(b, "(\"y\", ?)"), "absent");
  put_within(a, Tuple{"x", 2});
  ASSERT_TRUE(store::drop_space(desk, "a").has_value());
  a = Store::create(test.segment(), "a", {}).value();
  EXPECT_EQ(commit(), std::errc::identifier_removed);
  EXPECT_TRUE(store::roll_back(desk, transaction));
  EXPECT_EQ(count(a, "(?, ?)"), 0u);
  EXPECT_EQ(inp(b, "(\"y\", ?)"), "(\"y\", 1)");
}

TEST_F(TransactionsTest, AReaderOfWhatIsTakenReadsOn) {
  out(a, Tuple{"large", std::string(10'000, 'x')});
  bool seen = false;
  (void)a.rd(AnyOf("(\"large\", ?)").wanted(), nullptr, [&](TupleView tuple) {
    std::thread([&] {
      store::Desk& own = **store::Desk::of(test.segment());
      store::Transaction& other = *store::begin_transaction(own);
      EXPECT_TRUE(a.in_within(other, AnyOf("(\"large\", ?)").wanted(), nullptr, [](TupleView) { return true; }).value());
      EXPECT_FALSE(store::commit(own, other));
    }).join();
    seen = tuple[1].text == std::string(10'000, 'x');
    return true;
  });
  EXPECT_TRUE(seen);
}

TEST_F(TransactionsTest, EndsWithItsThreadOrProcess) {
  for (int i = 0; i < 2; ++i) out(a, Tuple{"x", i});
  auto begin = [&](int i) {
    store::Transaction& own = *store::begin_transaction(**store::Desk::of(test.segment()));
    EXPECT_TRUE(a.in_within(own, AnyOf({Template{"x", i}}).wanted(), nullptr, [](TupleView) { return true; }).value());
    EXPECT_TRUE(b.out_within(own, views_of(Tuple{"y", i})).has_value());
  };
  std::thread([&] { begin(0); }).join();
  EXPECT_EQ(count(a, "(?, ?)"), 2u);
  pid_t child = fork();
  if (child == 0) {
    begin(1);
    raise(SIGKILL);
  }
  waitpid(child, nullptr, 0);
  EXPECT_EQ(count(a, "(?, ?)"), 1u);
  EXPECT_EQ(store::reap(desk), 1u);
  EXPECT_EQ(count(a, "(?, ?)"), 2u);
  EXPECT_EQ(count(b, "(?, ?)"), 0u);
}

TEST_F(TransactionsTest, WhatWasTakenBeforeComesBackToItsPlaceAlsoIntoAFullSpace) {
  Store small = Store::create(test.segment(), "small", {2000, false}).value();
  for (int i = 0; i < 2; ++i) out(small, Tuple{"x", i, std::string(500, 'x')});
  store::Lifetime lifetime;
  Tuple taken;
  auto take = [&](TupleView tuple) { return taken = to_tuple(tuple), true; };
  EXPECT_TRUE(small.inp_within(transaction, AnyOf("(\"x\", ?, ?)").wanted(), take, &lifetime).value());
  EXPECT_FALSE(commit());
  out(small, Tuple{"y", std::string(600, 'y')});
  EXPECT_EQ(put(small, taken).error().code, std::errc::no_space_on_device);
  EXPECT_TRUE(small.out_within(transaction, views_of(taken), lifetime).has_value());
  EXPECT_FALSE(commit());
  EXPECT_EQ(inp(small, "(\"x\", ?, ?)"), to_text(taken));
}

TEST_F(TransactionsTest, WhatWasTakenOfASpaceThatWasDroppedDoesNotComeBack) {
  out(a, "(\"x\", 1)");
  store::Lifetime lifetime;
  EXPECT_TRUE(a.inp_within(transaction, AnyOf("(\"x\", ?)").wanted(), [](TupleView) { return true; }, &lifetime).value());
  EXPECT_FALSE(commit());
  ASSERT_TRUE(store::drop_space(desk, "a").has_value());
  a = Store::create(test.segment(), "a", {}).value();
  EXPECT_TRUE(a.out_within(transaction, views_of(Tuple{"x", 1}), lifetime).has_value());
  EXPECT_FALSE(commit());
  EXPECT_EQ(count(a, "(?, ?)"), 0u);
}

TEST_F(TransactionsTest, PutsMortalTuples) {
  uint64_t past = store::due_after({}), later = store::due_after(std::chrono::hours(1));
  for (int round = 0; round < 2; ++round) {
    EXPECT_TRUE(a.out_within(transaction, views_of(Tuple{"gone", 1}), {0, past}).has_value());
    EXPECT_TRUE(a.out_within(transaction, views_of(Tuple{"stays", 1}), {0, later}).has_value());
    if (round == 0) {
      EXPECT_TRUE(store::roll_back(desk, transaction));
    }
  }
  EXPECT_EQ(inp_within(a, "(\"gone\", ?)"), "(\"gone\", 1)");  // of its own it is there
  EXPECT_TRUE(a.out_within(transaction, views_of(Tuple{"gone", 1}), {0, past}).has_value());
  EXPECT_FALSE(commit());
  EXPECT_EQ(rdp(a, "(\"gone\", ?)"), "absent");
  store::Lifetime lifetime;
  EXPECT_TRUE(a.inp_within(transaction, AnyOf("(\"stays\", ?)").wanted(), [](TupleView) { return true; }, &lifetime).value());
  EXPECT_EQ(lifetime.due, later);
  EXPECT_FALSE(commit());
  store::expire(desk);
}

TEST_F(TransactionsTest, HappensOnACondition) {
  using Condition = Store::Condition;
  AnyOf state("(\"state\", ?)");
  put_within(a, Tuple{"state", 1});
  put_within(b, Tuple{"note", 1});
  EXPECT_FALSE(*a.commit_if(Condition::kInstead, state.wanted(), transaction));
  EXPECT_TRUE(*a.commit_if(Condition::kUnless, state.wanted(), transaction));
  EXPECT_EQ(count(b, "(?, ?)"), 1u);
  put_within(a, Tuple{"state", 2});
  EXPECT_FALSE(*a.commit_if(Condition::kUnless, state.wanted(), transaction));
  EXPECT_TRUE(*a.commit_if(Condition::kInstead, AnyOf("(?string, 1)").wanted(), transaction));
  EXPECT_EQ(inp(a, "(\"state\", ?)"), "(\"state\", 2)");
  EXPECT_EQ(count(a, "(?, ?)"), 0u);
}

TEST_F(TransactionsTest, TakesTheRoomOfWhatItTakesOnACondition) {
  Store small = Store::create(test.segment(), "small", {1500, false}).value();
  out(small, Tuple{"x", std::string(900, 'x')});
  put_within(small, Tuple{"x", std::string(900, 'y')});
  EXPECT_TRUE(*small.commit_if(Store::Condition::kInstead, AnyOf("(\"x\", ?)").wanted(), transaction));
  EXPECT_EQ(count(small, "(?, ?)"), 1u);
}

TEST_F(TransactionsTest, AcknowledgesWhatIsLeased) {
  out(a, "(\"x\", 1)");
  auto lease = [&] { return **a.in_for(std::chrono::hours(1), AnyOf("(\"x\", ?)").wanted(), nullptr, [](TupleView) { return true; }); };
  EXPECT_TRUE(*a.acknowledge(lease(), &transaction));
  EXPECT_TRUE(store::roll_back(desk, transaction));
  EXPECT_EQ(count(a, "(?, ?)"), 1u);  // back at its place
  auto delivery = lease();
  EXPECT_TRUE(*a.acknowledge(delivery, &transaction));
  EXPECT_FALSE(commit());
  EXPECT_FALSE(*a.acknowledge(delivery, &transaction));
  EXPECT_EQ(count(a, "(?, ?)"), 0u);
}

TEST_F(TransactionsTest, TakesWhatARequestIsAnsweredWith) {
  auto request = a.request(store::Verb::kIn, AnyOf("(\"x\", ?)").wanted(), 0).value();
  out(a, "(\"x\", 1)");
  store::Keeping keeping{&transaction};
  EXPECT_TRUE(**a.receive(request, [](TupleView) { return true; }, keeping));
  EXPECT_EQ(count(a, "(?, ?)"), 0u);
  EXPECT_TRUE(store::roll_back(desk, transaction));
  EXPECT_EQ(inp(a, "(\"x\", ?)"), "(\"x\", 1)");
}

// Without a reaper: who comes next finishes it.
TEST_F(TransactionsTest, OfADeadThreadIsWholeForWhoeverLooks) {
  die_in_a_commit();
  EXPECT_EQ(rdp(b, "(3, ?)"), "(3, 3)");
  EXPECT_EQ(count(b, "(?, ?)"), 10u);
}

// They have something in hand already when they find that there is something to finish.
TEST_F(TransactionsTest, OfADeadThreadIsFinishedByWhoeverPuts) {
  for (uint64_t before : {0u, 11u, 22u, 33u, 44u}) {
    die_in_a_commit();
    switch (before) {
      case 0: out(b, "(\"mine\", 0)"); break;
      case 11: EXPECT_TRUE(*b.out_if(Store::Condition::kUnless, AnyOf("(\"none\")").wanted(), views_of(Tuple{"mine", 1}))); break;
      case 22: EXPECT_TRUE(b.out_for(std::chrono::hours(1), views_of(Tuple{"mine", 2})).has_value()); break;
      case 33: EXPECT_TRUE(b.out_all(std::vector<Tuple>{Tuple{"mine", 3}}).has_value()); break;
      default: {
        auto watching = b.watch(AnyOf("(\"mine\", ?)").wanted()).value();
        out(b, "(\"mine\", 4)");
        EXPECT_TRUE(*b.next(watching, nullptr, [](TupleView) {}));
        b.end_watch(watching);
      }
    }
    EXPECT_EQ(count(b, "(?, ?)"), before + 11);
  }
}

}  // namespace
}  // namespace godwit::testing
