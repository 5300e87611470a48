// Requests: each has its own place in line, is answered once, and ends with its thread.
#include <sys/wait.h>
#include <x86intrin.h>

#include <thread>

#include "tests/support/audit.hh"
#include "tests/support/space.hh"

namespace godwit::testing {
namespace {

using store::Verb;

class RequestsTest : public ::testing::Test {
 protected:
  TestSegment test{256ull << 20};
  Store space = Store::create(test.segment(), "s", {}).value();
  store::Desk& desk = **store::Desk::of(test.segment());

  ~RequestsTest() override { expect_all_memory_back(desk); }

  uint32_t ask(std::string_view wanted, Verb verb = Verb::kIn, uint64_t ticket = __rdtsc()) {
    return space.request(verb, AnyOf(wanted).wanted(), ticket).value();
  }
  // What answered it, "waits", or the error.
  std::string receive(uint32_t request) {
    std::string got;
    auto done = space.receive(request, [&](TupleView tuple) { return got = to_text(to_tuple(tuple)), true; });
    if (!done) return done.error().code.message();
    return *done ? got : "waits";
  }
  std::vector<uint32_t> answered() { return store::answered(*store::requests_of(desk)); }
};

TEST_F(RequestsTest, AreAnsweredByWhatIsThere) {
  out(space, "(\"a\", 1)");
  uint32_t rd = ask("(\"a\", ?)", Verb::kRd), in = ask("(\"a\", ?)");
  EXPECT_EQ(answered(), (std::vector<uint32_t>{rd, in}));
  EXPECT_EQ(count(space, "(?, ?)"), 0u);
  EXPECT_EQ(receive(rd), "(\"a\", 1)");
  EXPECT_EQ(receive(in), "(\"a\", 1)");
}

TEST_F(RequestsTest, AreAnsweredByWhatComesInTheOrderInWhichTheyBegan) {
  uint64_t now = __rdtsc();
  uint32_t late = ask("(\"a\", ?)", Verb::kIn, now + 1), early = ask("(?, 1)", Verb::kIn, now), other = ask("(\"b\")");
  EXPECT_EQ(receive(early), "waits");
  out(space, "(\"a\", 1)");
  EXPECT_EQ(answered(), std::vector<uint32_t>{early});
  EXPECT_EQ(receive(early), "(\"a\", 1)");
  EXPECT_EQ(receive(late), "waits");
  out(space, "(\"a\", 1)");
  EXPECT_EQ(receive(late), "(\"a\", 1)");
  space.withdraw(other);
  out(space, "(\"b\")");
  EXPECT_EQ(inp(space, "(\"b\")"), "(\"b\")");
}

TEST_F(RequestsTest, AnAnswerThatIsNotWantedGoesBackToItsPlace) {
  uint32_t withdrawn = ask("(\"a\", ?)"), refused = ask("(\"a\", ?)");
  for (int i = 0; i < 3; ++i) out(space, Tuple{"a", i});
  EXPECT_EQ(count(space, "(?, ?)"), 1u);
  space.withdraw(withdrawn);
  EXPECT_FALSE(**space.receive(refused, [](TupleView) { return false; }));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(inp(space, "(\"a\", ?)"), to_text(Tuple{"a", i}));
}

TEST_F(RequestsTest, EndWithTheirSpace) {
  uint32_t dropped = ask("(\"a\")");
  ASSERT_TRUE(store::drop_space(desk, "s").has_value());
  EXPECT_EQ(answered(), std::vector<uint32_t>{dropped});
  EXPECT_EQ(receive(dropped), std::make_error_code(std::errc::identifier_removed).message());
}

TEST_F(RequestsTest, ThousandsOfThemStandInLine) {
  constexpr int kMany = 10'000;
  std::vector<uint32_t> requests;
  for (int i = 0; i < kMany; ++i) requests.push_back(ask(to_text(Tuple{"a", i})));
  for (int i = 0; i < kMany; ++i) out(space, Tuple{"a", kMany - 1 - i});
  EXPECT_EQ(answered().size(), static_cast<size_t>(kMany));
  for (int i = 0; i < kMany; ++i) ASSERT_EQ(receive(requests[i]), to_text(Tuple{"a", i}));
}

TEST_F(RequestsTest, MoreThanAThreadCanHaveAreRefused) {
  std::vector<uint32_t> requests;
  AnyOf wanted("(\"a\")");
  for (;;) {
    auto request = space.request(Verb::kRd, wanted.wanted(), 1);
    if (!request) break;
    requests.push_back(*request);
  }
  EXPECT_EQ(requests.size(), store::kRequests);
  for (uint32_t request : requests) space.withdraw(request);
  space.withdraw(ask("(\"a\")"));
}

TEST_F(RequestsTest, TheThreadSleepsUntilItsBellRings) {
  store::Requests& table = *store::requests_of(desk);
  uint32_t request = ask("(\"a\")");
  std::thread writer([&] {
    while (!table.sleeps) std::this_thread::yield();
    out(space, "(\"a\")");
  });
  for (;;) {
    uint32_t bell = table.bell;
    if (!answered().empty()) break;
    EXPECT_TRUE(store::await_ring(table, bell, kForever));
  }
  writer.join();
  EXPECT_EQ(receive(request), "(\"a\")");
}

TEST_F(RequestsTest, EndWithTheirThread) {
  std::thread([&] {
    (void)ask("(\"waits\")");
    (void)ask("(\"held\")");
    out(space, "(\"held\")");
    EXPECT_EQ(count(space, "(\"held\")"), 0u);
  }).join();
  EXPECT_EQ(store::list_waits(desk).size(), 0u);
  EXPECT_EQ(inp(space, "(\"held\")"), "(\"held\")");
}

TEST_F(RequestsTest, EndWithTheirProcess) {
  pid_t child = fork();
  if (child == 0) {
    (void)ask("(\"waits\")");
    (void)ask("(\"held\")");
    (void)ask("(\"held\")", Verb::kRd);
    out(space, "(\"held\")");
    raise(SIGKILL);
  }
  waitpid(child, nullptr, 0);
  EXPECT_EQ(store::list_waits(desk).size(), 1u);
  EXPECT_EQ(store::reap(desk), 1u);
  EXPECT_EQ(store::list_waits(desk).size(), 0u);
  out(space, "(\"waits\")");
  EXPECT_EQ(inp(space, "(\"waits\")"), "(\"waits\")");
  EXPECT_EQ(inp(space, "(\"held\")"), "(\"held\")");
}

}  // namespace
}  // namespace godwit::testing
