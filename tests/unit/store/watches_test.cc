// Watches see every tuple that comes, once and in order, whoever takes it and whoever is killed.
#include <sys/wait.h>

#include <thread>

#include "tests/support/audit.hh"
#include "tests/support/space.hh"
#include "tuplespace/store/watches.hh"

namespace godwit::testing {
namespace {

class WatchesTest : public ::testing::Test {
 protected:
  TestSegment test{256ull << 20};
  Store space = Store::create(test.segment(), "s", {}).value();
  store::Desk& desk = **store::Desk::of(test.segment());

  ~WatchesTest() override { expect_all_memory_back(desk); }

  store::Watching watch(std::string_view wanted) { return space.watch(AnyOf(wanted).wanted()).value(); }
  // What is seen next, or the error's condition.
  std::string next(store::Watching& watching, const Wait* wait = nullptr) {
    std::string seen = "nothing";
    auto done = space.next(watching, wait, [&](TupleView tuple) { seen = to_text(to_tuple(tuple)); });
    return done ? seen : done.error().code.message();
  }
};

TEST_F(WatchesTest, SeeWhatComesAlsoIfItIsTakenAtOnce) {
  out(space, "(\"w\", 0)");
  auto watching = watch("(\"w\", ?)");
  std::thread taker([&] { EXPECT_EQ(in(space, "(\"w\", 1)"), "(\"w\", 1)"); });
  while (store::list_waits(desk).empty()) std::this_thread::yield();
  out(space, "(\"w\", 1)");
  taker.join();
  out(space, "(\"other\")");
  out(space, "(\"w\", 2)");
  EXPECT_EQ(inp(space, "(\"w\", 2)"), "(\"w\", 2)");
  EXPECT_EQ(next(watching), "(\"w\", 1)");
  EXPECT_EQ(next(watching), "(\"w\", 2)");
  EXPECT_EQ(next(watching), "nothing");
  EXPECT_EQ(count(space, "(?, ?)"), 1u);
  space.end_watch(watching);
}

TEST_F(WatchesTest, DoNotSeeWhatComesBack) {
  auto watching = watch("(?)");
  out(space, "(1)");
  (void)space.in(AnyOf("(1)").wanted(), nullptr, [](TupleView) { return false; });
  EXPECT_EQ(next(watching), "(1)");
  EXPECT_EQ(next(watching), "nothing");
  space.end_watch(watching);
}

TEST_F(WatchesTest, SeeWhatIsCollectedIntoTheirSpace) {
  Store other = Store::create(test.segment(), "other", {}).value();
  auto watching = watch("(?)");
  for (int i = 0; i < 3; ++i) out(other, Tuple{i});
  EXPECT_EQ(other.copy_collect(space, AnyOf("(0..1)").wanted()).value(), 2u);
  EXPECT_EQ(other.collect(space, AnyOf("(2)").wanted()).value(), 1u);
  for (const char* expected : {"(0)", "(1)", "(2)", "nothing"}) EXPECT_EQ(next(watching), expected);
  EXPECT_EQ(space.collect(other, AnyOf("(?)").wanted()).value(), 3u);  // those it has seen
  space.end_watch(watching);
}

TEST_F(WatchesTest, CountWhatTheyCannotKeep) {
  auto watching = watch("(?)");
  for (uint32_t i = 0; i < store::kWatched + 5; ++i) out(space, Tuple{int64_t{i}});
  EXPECT_EQ(next(watching), "(0)");
  EXPECT_EQ(watching.missed, 5u);
  out(space, "(-1)");
  for (uint32_t i = 1; i < store::kWatched; ++i) EXPECT_EQ(next(watching), "(" + std::to_string(i) + ")");
  EXPECT_EQ(next(watching), "(-1)");
  Bytes large{std::string(store::kWatchedBytes + 1, 'x')};
  for (int i = 0; i < 2; ++i) out(space, Tuple{large});
  EXPECT_GT(next(watching).size(), store::kWatchedBytes);
  EXPECT_EQ(next(watching), "nothing");
  EXPECT_EQ(watching.missed, 6u);
  space.end_watch(watching);
}

TEST_F(WatchesTest, WaitUntilSomethingComesOrTheWaitIsOver) {
  auto watching = watch("(?)");
  Wait past(Deadline::min());
  EXPECT_EQ(next(watching, &past), std::make_error_code(std::errc::timed_out).message());
  std::stop_source stop;
  Wait stoppable(stop.get_token());
  std::thread stopper([&] { stop.request_stop(); });
  EXPECT_EQ(next(watching, &stoppable), std::make_error_code(std::errc::operation_canceled).message());
  stopper.join();
  Wait wait;
  std::thread writer([&] {
    for (int i = 0; i < 1000; ++i) out(space, Tuple{i});
  });
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(next(watching, &wait), "(" + std::to_string(i) + ")");
  writer.join();
  space.end_watch(watching);
}

TEST_F(WatchesTest, OfADroppedSpaceSeeTheRestAndThenThatItIsGone) {
  auto watching = watch("(?)");
  out(space, "(1)");
  EXPECT_TRUE(store::drop_space(desk, "s"));
  EXPECT_EQ(next(watching), "(1)");
  std::string gone = std::make_error_code(std::errc::identifier_removed).message();
  EXPECT_EQ(next(watching), gone);
  Store again = Store::create(test.segment(), "s", {}).value();
  out(again, "(2)");
  EXPECT_EQ(next(watching), gone);
  space.end_watch(watching);
}

TEST_F(WatchesTest, AreSixteenAtMost) {
  std::vector<store::Watching> all;
  for (int i = 0; i < 16; ++i) all.push_back(watch("(?)"));
  EXPECT_EQ(space.watch(AnyOf("(?)").wanted()).error().code, std::errc::no_space_on_device);
  out(space, "(1)");
  for (auto& one : all) EXPECT_EQ(next(one), "(1)");
  for (auto& one : all) space.end_watch(one);
}

TEST_F(WatchesTest, EndWithTheirThread) {
  store::Watching watching;
  std::thread([&] {
    watching = watch("(?)");
    out(space, "(1)");
  }).join();
  EXPECT_EQ(next(watching), std::make_error_code(std::errc::identifier_removed).message());
}

TEST_F(WatchesTest, OfAKilledProcessAreReaped) {
  pid_t child = fork();
  if (child == 0) {
    (void)watch("(?)");
    out(space, "(1)");
    kill(getpid(), SIGKILL);
  }
  waitpid(child, nullptr, 0);
  EXPECT_EQ(inp(space, "(1)"), "(1)");  // its memory is the watch's now
  while (store::reap(desk) == 0) {
  }
}

}  // namespace
}  // namespace godwit::testing
