// A space by itself: what matches, in which order, who is served, and what happens when it is full.
#include <sys/wait.h>

#include <thread>

#include "tests/support/space.hh"
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/groups.hh"
#include "tuplespace/store/reap.hh"
#include "tuplespace/store/root.hh"

namespace godwit::testing {
namespace {

using namespace std::chrono_literals;

class StoreTest : public ::testing::Test {
 protected:
  TestSegment test{256ull << 20};
  Store space = Store::open(test.segment(), kDefaultSpace).value();

  store::Desk& desk() { return **store::Desk::of(test.segment()); }
  void until_waiting(uint32_t waiters) {
    while (store::list_spaces(desk())[0].waiters != waiters) std::this_thread::yield();
  }
};

TEST_F(StoreTest, WhatWasPutIsTakenOnce) {
  out(space, "(\"task\", 42, 3.5, true, nil, b\"\\x00\\xff\", (\"nested\", 1))");
  EXPECT_EQ(count(space, "(?, ?, ?, ?, ?, ?, ?)"), 1u);
  EXPECT_EQ(inp(space, "(\"task\", ?int, ?float, ?bool, ?, ?bytes, ?tuple)"),
            "(\"task\", 42, 3.5, true, nil, b\"\\x00\\xff\", (\"nested\", 1))");
  EXPECT_EQ(inp(space, "(\"task\", ?, ?, ?, ?, ?, ?)"), "absent");
}

TEST_F(StoreTest, TheOldestMatchIsTakenWhateverTheTemplate) {
  for (int i = 0; i < 100; ++i) out(space, Tuple{"k" + std::to_string(i % 7), i, i % 3 ? Field(1.5) : Field("s")});
  EXPECT_EQ(rdp(space, "(?string, ?int, ?)"), "(\"k0\", 0, \"s\")");
  EXPECT_EQ(rdp(space, "(?, ?, ?float)"), "(\"k1\", 1, 1.5)");
  EXPECT_EQ(rdp(space, "(\"k3\", ?, ?)"), "(\"k3\", 3, \"s\")");
  EXPECT_EQ(rdp(space, "(?, 50..60, ?)"), "(\"k1\", 50, 1.5)");
  EXPECT_EQ(rdp(space, "(\"k\"*, {98, 99}, ?)"), "(\"k0\", 98, 1.5)");
  EXPECT_EQ(inp(space, "(\"k0\", ?, ?)"), "(\"k0\", 0, \"s\")");
  EXPECT_EQ(inp(space, "(\"k0\", ?, ?)"), "(\"k0\", 7, 1.5)");
}

TEST_F(StoreTest, TypesAreExact) {
  out(space, "(1)");
  out(space, "(\"a\")");
  out(space, "(-0.0)");
  EXPECT_EQ(rdp(space, "(1.0)"), "absent");
  EXPECT_EQ(rdp(space, "(b\"a\")"), "absent");
  EXPECT_EQ(rdp(space, "(0.0)"), "(-0.0)");
  EXPECT_EQ(rdp(space, "(nan)"), "absent");
  EXPECT_EQ(rdp(space, "(1, ?)"), "absent");
}

TEST_F(StoreTest, TheEmptyTupleIsATuple) {
  EXPECT_EQ(rdp(space, "()"), "absent");
  out(space, "()");
  EXPECT_EQ(inp(space, "()"), "()");
}

TEST_F(StoreTest, IndexesFollowManyTuples) {
  for (int i = 0; i < 20000; ++i) out(space, Tuple{"k", i, std::to_string(i)});
  for (int i = 19999; i >= 0; i -= 3) {
    Template exact{"k", i, Formal{Type::kString}}, second{Formal{Type::kString}, i, AnyFormal{}},
        third{AnyFormal{}, AnyFormal{}, std::to_string(i)};
    const Template& wanted = i % 3 == 0 ? exact : i % 2 ? second : third;
    auto tuple = get(space, &Store::in, AnyOf({wanted}));
    ASSERT_TRUE(tuple && *(*tuple)[1].get<int64_t>() == i) << i;
  }
  EXPECT_EQ(count(space, "(?, ?, ?)"), 20000u - 6667u);
  while (inp(space, "(?, ?int, ?)") != "absent") {
  }
  EXPECT_EQ(count(space, "(?, ?, ?)"), 0u);
}

TEST_F(StoreTest, MemoryComesBack) {
  store::flush_all(desk(), *desk().bench);
  uint64_t before = test.segment().header().used_chunks;
  for (int i = 0; i < 5000; ++i) out(space, Tuple{i, std::string(static_cast<size_t>(i) * 3, 'x')});
  for (int i = 0; i < 40; ++i) ASSERT_EQ(inp(space, "(" + std::to_string(4900 + i) + ", ?)").size(), static_cast<size_t>((4900 + i) * 3 + 10));
  while (inp(space, "(?int, ?)") != "absent") {
  }
  store::flush_all(desk(), *desk().bench);
  // What one class keeps is one chunk, and a stripe keeps the first part of its table.
  EXPECT_LE(test.segment().header().used_chunks, before + shared::kBlockClasses);
}

TEST_F(StoreTest, LargeTuplesComeBackWhole) {
  std::string payload(20 << 20, 'x');
  for (size_t i = 0; i < payload.size(); i += 4093) payload[i] = static_cast<char>(i);
  ASSERT_TRUE(put(space, Tuple{"large", Bytes{payload}}).has_value());
  auto read = get(space, &Store::rd, AnyOf("(\"large\", ?bytes)"));
  ASSERT_TRUE(read && (*read)[1].get<Bytes>()->data == payload);
  auto taken = get(space, &Store::in, AnyOf("(\"large\", ?bytes)"));
  ASSERT_TRUE(taken && (*taken)[1].get<Bytes>()->data == payload);
}

TEST_F(StoreTest, AFullSegmentIsAnErrorAndHarmsNobody) {
  TestSegment little(32ull << 20);
  Store space = Store::open(little.segment(), kDefaultSpace).value();
  std::string payload(1 << 20, 'x');
  int done = 0;
  while (put(space, Tuple{"big", done, payload}).has_value()) ++done;
  EXPECT_GT(done, 10);
  auto refused = put(space, Tuple{"big", 0, payload});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, std::errc::no_space_on_device);
  for (int i = 0; i < done; ++i) ASSERT_NE(inp(space, "(\"big\", ?, ?)"), "absent");
  EXPECT_TRUE(put(space, Tuple{"big", 0, payload}).has_value());
}

TEST_F(StoreTest, ABlockedInIsGivenWhatComes) {
  for (const char* wanted : {"(\"a\", ?int)", "(\"a\", 5)", "(?string, 5)", "(?, ?)", "(\"a\"*, 1..9)", "(\"a\", {4, 5})"}) {
    std::string taken;
    std::thread taker([&] { taken = in(space, wanted); });
    until_waiting(1);
    out(space, "(\"b\", 50)");
    EXPECT_EQ(inp(space, "(\"b\", 50)"), std::string(wanted) == "(?, ?)" ? "absent" : "(\"b\", 50)");
    out(space, "(\"a\", 5)");
    taker.join();
    EXPECT_EQ(taken, std::string(wanted) == "(?, ?)" ? "(\"b\", 50)" : "(\"a\", 5)") << wanted;
    EXPECT_EQ(inp(space, "(\"a\", 5)"), std::string(wanted) == "(?, ?)" ? "(\"a\", 5)" : "absent");
  }
}

TEST_F(StoreTest, AllBlockedRdsAreServedAndThenTheInThatWaitedLongest) {
  std::atomic<int> read = 0;
  std::vector<std::thread> threads;
  std::string first, second;
  for (int i = 0; i < 50; ++i)
    threads.emplace_back([&, i] { read += rd(space, i % 2 ? "(\"x\", ?int)" : "(?, ?int)") == "(\"x\", 1)"; });
  until_waiting(50);
  std::thread one([&] { first = in(space, "(?string, ?int)"); });
  until_waiting(51);
  std::thread two([&] { second = in(space, "(\"x\", ?int)"); });
  until_waiting(52);
  out(space, "(\"x\", 1)");
  for (auto& thread : threads) thread.join();
  one.join();
  EXPECT_EQ(read, 50);
  EXPECT_EQ(first, "(\"x\", 1)");
  out(space, "(\"x\", 2)");
  two.join();
  EXPECT_EQ(second, "(\"x\", 2)");
  EXPECT_EQ(count(space, "(?, ?)"), 0u);
}

TEST_F(StoreTest, AWaitIsOverAtItsDeadlineOrWhenStopped) {
  Wait soon{std::chrono::steady_clock::now() + 20ms, {}};
  EXPECT_EQ(got(space, &Store::in, "(\"never\")", &soon), "absent");
  std::stop_source stop;
  std::thread stopper([&] {
    until_waiting(1);
    stop.request_stop();
  });
  Wait wait{kForever, stop.get_token()};
  auto done = space.in(AnyOf("(?, \"never\")").wanted(), &wait, [](TupleView) { return true; });
  stopper.join();
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code, std::errc::operation_canceled);
  EXPECT_EQ(store::list_spaces(desk())[0].waiters, 0u);
}

TEST_F(StoreTest, WhatIsNotReceivedGoesBackToItsPlace) {
  out(space, "(\"a\", 1)");
  out(space, "(\"a\", 2)");
  auto done = space.in(AnyOf("(\"a\", ?)").wanted(), nullptr, [](TupleView) { return false; });
  EXPECT_TRUE(done && !*done);
  EXPECT_EQ(inp(space, "(\"a\", ?)"), "(\"a\", 1)");
}

TEST_F(StoreTest, SpacesAreCreatedListedAndDropped) {
  auto other = Store::create(test.segment(), "other", {}).value();
  EXPECT_EQ(Store::create(test.segment(), "other", {}).error().code, std::errc::file_exists);
  EXPECT_EQ(Store::open(test.segment(), "absent").error().code, std::errc::no_such_file_or_directory);
  EXPECT_EQ(Store::create(test.segment(), "with blank", {}).error().code, std::errc::invalid_argument);
  out(other, "(1)");
  EXPECT_EQ(inp(space, "(1)"), "absent");
  EXPECT_EQ(store::list_spaces(desk()).size(), 2u);
  std::thread waiter([&] {
    Wait wait;
    auto done = other.in(AnyOf("(2)").wanted(), &wait, [](TupleView) { return true; });
    EXPECT_EQ(done.error().code, std::errc::identifier_removed);
  });
  while (store::list_spaces(desk())[1].waiters != 1) std::this_thread::yield();
  EXPECT_TRUE(store::drop_space(desk(), "other").has_value());
  waiter.join();
  EXPECT_EQ(put(other, Tuple{1}).error().code, std::errc::identifier_removed);
  auto again = Store::create(test.segment(), "other", {}).value();
  EXPECT_EQ(inp(again, "(1)"), "absent");
}

TEST_F(StoreTest, ACapacityRefusesOrBlocksAsTheSpaceWasMade) {
  auto refusing = Store::create(test.segment(), "refusing", {4096, false}).value();
  int done = 0;
  while (put(refusing, Tuple{done, std::string(500, 'x')}).has_value()) ++done;
  EXPECT_GE(done, 4);
  EXPECT_LE(done, 8);
  auto blocking = Store::create(test.segment(), "blocking", {4096, true}).value();
  for (int i = 0; i < done; ++i) out(blocking, Tuple{i, std::string(500, 'x')});
  Tuple last{done, std::string(500, 'x')};
  Wait soon{std::chrono::steady_clock::now() + 20ms, {}};
  EXPECT_EQ(blocking.out(views_of(last), &soon).error().code, std::errc::timed_out);
  std::thread writer([&] {
    Wait wait;
    EXPECT_TRUE(blocking.out(views_of(last), &wait).has_value());
  });
  EXPECT_EQ(inp(blocking, "(0, ?)").substr(0, 3), "(0,");
  writer.join();
  EXPECT_EQ(count(blocking, "(?int, ?)"), static_cast<uint64_t>(done));
}

TEST_F(StoreTest, WhatIsRefusedTakesNoMemory) {
  auto small = Store::create(test.segment(), "small", {4096, false}).value();
  auto dropped = Store::create(test.segment(), "dropped", {}).value();
  ASSERT_TRUE(store::drop_space(desk(), "dropped").has_value());
  Tuple large{std::string(100000, 'x')};
  uint64_t before = test.segment().header().used_chunks;
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(put(small, large).error().code, std::errc::message_size);
    EXPECT_EQ(put(dropped, large).error().code, std::errc::identifier_removed);
  }
  EXPECT_EQ(test.segment().header().used_chunks, before);
}

TEST_F(StoreTest, AWaitForAnyOfTwoFirstFieldsIsAnsweredByEither) {
  auto single = Store::create(test.segment(), "single", {1 << 20, false}).value();
  for (const char* put_text : {"(\"a\", 1)", "(\"b\", 1)"}) {
    std::atomic<bool> answered = false;
    std::thread taker([&] {
      AnyOf any_of({Template{"a", Formal{Type::kInt}}, Template{"b", Formal{Type::kInt}}});
      Wait wait;
      answered = get(single, &Store::in, any_of, &wait).has_value();
    });
    while (store::list_spaces(desk())[1].waiters != 1) std::this_thread::yield();
    out(single, put_text);
    EXPECT_EQ(store::list_spaces(desk())[1].waiters, 0u);  // handed over at once
    taker.join();
    EXPECT_TRUE(answered);
  }
}

TEST_F(StoreTest, CollectMovesAndCopyCollectCopiesInOrder) {
  auto to = Store::create(test.segment(), "to", {}).value();
  for (int i = 0; i < 100; ++i) out(space, Tuple{i % 2 ? "odd" : "even", i});
  EXPECT_EQ(space.copy_collect(to, AnyOf("(?, 0..9)").wanted()).value(), 10u);
  EXPECT_EQ(count(space, "(?, ?)"), 100u);
  EXPECT_EQ(space.collect(to, AnyOf("(\"odd\", ?)").wanted()).value(), 50u);
  EXPECT_EQ(count(space, "(?, ?)"), 50u);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(*(*get(to, &Store::in, AnyOf("(?, ?)")))[1].get<int64_t>(), i);
  for (int i = 1; i < 100; i += 2) EXPECT_EQ(*(*get(to, &Store::in, AnyOf("(?, ?)")))[1].get<int64_t>(), i);
}

TEST_F(StoreTest, ACollectedTupleServesWhoWaitsThere) {
  auto to = Store::create(test.segment(), "to", {}).value();
  std::string taken;
  std::thread taker([&] { taken = in(to, "(?, 1)"); });
  while (store::list_spaces(desk())[1].waiters != 1) std::this_thread::yield();
  out(space, "(\"a\", 1)");
  EXPECT_EQ(space.collect(to, AnyOf("(?, ?)").wanted()).value(), 1u);
  taker.join();
  EXPECT_EQ(taken, "(\"a\", 1)");
}

TEST_F(StoreTest, AChildOfForkIsAMemberOfItsOwn) {
  out(space, "(\"parent\")");
  pid_t child = fork();
  if (child == 0) {
    out(space, "(\"child\")");
    _exit(inp(space, "(\"parent\")") == "(\"parent\")" ? 0 : 1);
  }
  int status;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(inp(space, "(\"child\")"), "(\"child\")");
  EXPECT_EQ(inp(space, "(\"parent\")"), "absent");
  EXPECT_EQ(store::reap(desk()), 1u);
}

TEST_F(StoreTest, WhoExecutesAnotherProgramIsAMemberNoMore) {
  int ready[2], end[2];
  ASSERT_EQ(pipe(ready) | pipe(end), 0);
  pid_t child = fork();
  if (child == 0) {
    out(space, "(\"child\")");
    dup2(end[0], 0);
    dup2(ready[1], 1);
    for (int fd : {ready[0], ready[1], end[0], end[1]}) close(fd);
    execlp("sh", "sh", "-c", "echo; read line", nullptr);
    _exit(127);
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_EQ(store::reap(desk()), 1u);
  EXPECT_EQ(inp(space, "(\"child\")"), "(\"child\")");
  for (int fd : {ready[0], ready[1], end[0], end[1]}) close(fd);
  int status;
  waitpid(child, &status, 0);
}

TEST_F(StoreTest, IsPutUnlessOneIsThereOrInItsPlace) {
  using Condition = Store::Condition;
  auto put_if = [&](Condition condition, std::string_view wanted, const Tuple& tuple) {
    return space.out_if(condition, AnyOf(wanted).wanted(), views_of(tuple)).value();
  };
  EXPECT_TRUE(put_if(Condition::kUnless, "(\"leader\", ?)", Tuple{"leader", 1}));
  EXPECT_FALSE(put_if(Condition::kUnless, "(\"leader\", ?)", Tuple{"leader", 2}));
  EXPECT_FALSE(put_if(Condition::kUnless, "(?, 1)", Tuple{"other", 2}));  // of all stripes
  EXPECT_FALSE(put_if(Condition::kInstead, "(\"leader\", 7)", Tuple{"leader", 2}));
  EXPECT_TRUE(put_if(Condition::kInstead, "(\"leader\", 1)", Tuple{"leader", 2}));
  EXPECT_EQ(count(space, "(?, ?)"), 1u);
  EXPECT_TRUE(put_if(Condition::kInstead, "(?, 2)", Tuple{"follower", std::string(70'000, 'x')}));
  EXPECT_EQ(count(space, "(\"leader\", ?)"), 0u);
  std::thread taker([&] { EXPECT_EQ(in(space, "(\"next\")"), "(\"next\")"); });
  while (store::list_waits(desk()).empty()) std::this_thread::yield();
  auto read_on = space.rd(AnyOf("(\"follower\", ?)").wanted(), nullptr, [&](TupleView tuple) {
    std::thread([&] { EXPECT_TRUE(put_if(Condition::kInstead, "(\"follower\", ?)", Tuple{"next"})); }).join();
    return tuple[1].text == std::string(70'000, 'x');
  });
  EXPECT_TRUE(*read_on);
  taker.join();
  Store small = Store::create(test.segment(), "small", {2000, false}).value();
  out(small, Tuple{"there", std::string(1000, 'x')});
  auto full = small.out_if(Condition::kUnless, AnyOf("(1)").wanted(), views_of(Tuple{"more", std::string(1000, 'x')}));
  EXPECT_EQ(full.error().code, std::errc::no_space_on_device);
  EXPECT_TRUE(*small.out_if(Condition::kInstead, AnyOf("(?, ?)").wanted(), views_of(Tuple{"new", std::string(1000, 'x')})));
}

// Of many who compare and swap, one is first each time.
TEST_F(StoreTest, SwapsOfOneCounterAreEachCounted) {
  out(space, Tuple{"counter", 0});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int done = 0; done < 500;) {
        int64_t now = 0;
        (void)space.rd(AnyOf("(\"counter\", ?int)").wanted(), nullptr, [&](TupleView tuple) { return now = tuple[1].integer, true; });
        done += *space.out_if(Store::Condition::kInstead, AnyOf({Template{"counter", now}}).wanted(), views_of(Tuple{"counter", now + 1}));
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(inp(space, "(\"counter\", ?)"), "(\"counter\", 2000)");
}

// Threads that wait in a space, of one stripe or of many, while it is dropped and made anew.
TEST_F(StoreTest, ASpaceIsMadeAnewWhileOthersWaitInIt) {
  std::atomic<bool> over = false;
  std::vector<std::thread> waiting;
  for (int t = 0; t < 3; ++t)
    waiting.emplace_back([&] {
      while (!over) {
        auto brief = Store::open(test.segment(), "brief");
        Wait wait(std::chrono::milliseconds(5));
        if (brief) (void)brief->in(AnyOf("(?, \"never\")").wanted(), &wait, [](TupleView) { return true; });
      }
    });
  for (int round = 0; round < 300; ++round) {
    Store brief = Store::create(test.segment(), "brief", {round % 2 ? 1u << 20 : 0u, false}).value();
    for (int i = 0; i < 32; ++i) out(brief, Tuple{i, i});
    EXPECT_EQ(count(brief, "(?, ?)"), 32u);
    ASSERT_TRUE(store::drop_space(desk(), "brief").has_value());
  }
  over = true;
  for (auto& thread : waiting) thread.join();
}

TEST_F(StoreTest, AFullSegmentHasRoomForWhoTakes) {
  TestSegment little(32ull << 20);
  Store full = Store::create(little.segment(), "full", {}).value();
  for (size_t size : {1u << 20, 60'000u, 10u})
    while (put(full, Tuple{"fill", std::string(size, 'x')}).has_value()) {
    }
  std::vector<std::thread> takers;
  for (int i = 0; i < 8; ++i) takers.emplace_back([&] { EXPECT_NE(inp(full, "(\"fill\", ?)"), "absent"); });
  for (auto& taker : takers) taker.join();
}

TEST_F(StoreTest, WhoDiesWithATupleInHandGivesItBackToItsPlace) {
  for (int i = 0; i < 3; ++i) out(space, Tuple{"a", i});
  pid_t child = fork();
  if (child == 0) {
    (void)space.in(AnyOf("(\"a\", 1)").wanted(), nullptr, [](TupleView) -> bool { _exit(0); });
    _exit(1);
  }
  int status;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(count(space, "(\"a\", ?)"), 2u);
  EXPECT_EQ(store::reap(desk()), 1u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(*(*get(space, &Store::in, AnyOf("(\"a\", ?)")))[1].get<int64_t>(), i);
}

TEST_F(StoreTest, ATemplateThatNoTupleCanMatchIsRefused) {
  std::vector<Pattern> fields(store::kMaxArity + 1, Pattern(AnyFormal{}));
  AnyOf wanted({Template(fields)});
  Wait wait;
  auto done = space.in(wanted.wanted(), &wait, [](TupleView) { return true; });
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code, std::errc::message_size);
}

TEST_F(StoreTest, RoomThatACollectMakesIsToldToWhoWaitsForIt) {
  auto blocking = Store::create(test.segment(), "blocking", {4096, true}).value();
  auto to = Store::create(test.segment(), "to", {}).value();
  store::Root& root = *store::open_space(desk(), "blocking")->root;
  int done = 0;
  Wait soon{std::chrono::steady_clock::now(), {}};
  while (blocking.out(views_of(Tuple{done, std::string(500, 'x')}), &soon).has_value()) {
    EXPECT_EQ(root.room_wanted.load(), 0u);  // nobody waits, there is room
    ++done;
  }
  EXPECT_EQ(root.room_wanted.load(), 1u);
  uint32_t room = root.room.load();
  EXPECT_EQ(blocking.collect(to, AnyOf("(?int, ?)").wanted()).value(), static_cast<uint64_t>(done));
  EXPECT_GT(root.room.load(), room);
}

TEST_F(StoreTest, FreedMemoryServesLargerTuplesToo) {
  TestSegment little(32ull << 20);
  Store space = Store::open(little.segment(), kDefaultSpace).value();
  for (size_t size : {200u << 10, 500u << 10, 1000u << 10, 5u << 20}) {
    Tuple tuple{"large", std::string(size, 'x')};
    int done = 0;
    while (put(space, tuple).has_value()) ++done;
    EXPECT_GE(done, 4) << size;
    while (inp(space, "(\"large\", ?)") != "absent") {
    }
  }
}

// Keys whose hashes meet in one bucket, until the table has 4096: it grows all the same.
TEST_F(StoreTest, TheTableGrowsAlsoWhereManyKeysMeet) {
  auto single = Store::create(test.segment(), "single", {64 << 20, false}).value();
  store::Root& root = *store::open_space(desk(), "single")->root;
  store::Stripe& stripe = root.stripes[0];
  for (int64_t i = -100; i < 0; ++i) out(single, Tuple{"k", i});
  EXPECT_EQ(rdp(single, "(\"k\", -1)"), "(\"k\", -1)");  // makes the index
  store::Shape* shape = nullptr;
  store::for_each_shape(desk(), stripe, [&](store::Ref, store::Shape& one) { shape = &one; });
  std::vector<int64_t> meeting, others;
  for (int64_t i = 0; meeting.size() < 200; ++i) {
    FieldView second = FieldView::of(i);
    bool meets = (store::make_key(*shape, 0, FieldView::string("k"), &second).hash >> 2) % 4096 == 77;
    if (meets) meeting.push_back(i);
    else if (others.size() < 3000) others.push_back(i);
  }
  for (int64_t i : meeting) out(single, Tuple{"k", i});
  for (int64_t i : others) out(single, Tuple{"k", i});
  EXPECT_GE(stripe.buckets, 3000u);
  for (auto* some : {&meeting, &others})
    for (int64_t i : *some) ASSERT_TRUE(get(single, &Store::in, AnyOf({Template{"k", i}}))) << i;
  EXPECT_LT(stripe.buckets, 3000u);
}

}  // namespace
}  // namespace godwit::testing
