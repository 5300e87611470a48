// Active tuples and their workers, on a host of its own with a real node.
#include "tuplespace/eval.hh"

#include <gtest/gtest.h>
#include <sys/prctl.h>

#include "support/godwit_process.hh"
#include "tuplespace/text.hh"
#include "tuplespace/transaction.hh"

namespace godwit {
namespace {

using namespace std::chrono_literals;
using namespace test;

class EvalTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    setenv("GODWIT_EXECUTABLE", GODWIT_BINARY, 1);
    host_ = new TestHost("here");
    setenv("GODWIT_HOME", host_->home().c_str(), 1);
  }
  static void TearDownTestSuite() { delete host_; }
  static std::string name() { return ::testing::UnitTest::GetInstance()->current_test_info()->name(); }

  static std::errc code_of(const std::function<void()>& f) {
    try {
      f();
    } catch (const Failure& failure) {
      return static_cast<std::errc>(failure.code().value());
    }
    return {};
  }

  // What the host says of the space in which the calls wait.
  SpaceFacts calls() const {
    for (const SpaceFacts& facts : Space::list())
      if (facts.name == name() + ".eval") return facts;
    return {};
  }
  void until_nothing_is_left() const {
    while (calls().tuples) std::this_thread::yield();
  }
  void until_wait(uint32_t number) const {
    while (calls().waiters != number) std::this_thread::yield();
  }

  static inline TestHost* host_;
  Space space_ = Space::create(name());
  Functions functions_ = Functions().add("square", [](int64_t n) { return n * n; });
};

// A process that works. Killed at the end.
class WorkerProcess {
 public:
  WorkerProcess(const Space& space, const Functions& functions) : pid_(fork()) {
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    work(space, functions);
    _exit(1);
  }
  ~WorkerProcess() {
    kill(pid_, SIGKILL);
    wait_for(pid_);
  }
  void until_stopped() const {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, WUNTRACED), pid_);
    EXPECT_TRUE(WIFSTOPPED(status));
  }
  void go_on() const { kill(pid_, SIGCONT); }

 private:
  const pid_t pid_;
};

// What is written to stderr meanwhile.
class Told {
 public:
  Told() : before_(dup(STDERR_FILENO)) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    read_ = UniqueFd(ends[0]);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
  }
  ~Told() { dup2(before_.get(), STDERR_FILENO); }
  // Waits for one.
  std::string line() const {
    std::string text;
    for (char c = 0; c != '\n' && read(read_.get(), &c, 1) == 1;) text += c;
    return text;
  }

 private:
  UniqueFd before_, read_;
};

TEST_F(EvalTest, AnActiveTupleBecomesAPassiveOne) {
  Workers workers(space_, functions_, 2);
  for (int n = 0; n < 20; ++n) space_.eval("result", n, call("square", n));
  for (int n = 0; n < 20; ++n) EXPECT_EQ(space_.in("result", n, formal<int>), std::tuple(n * n));
  until_nothing_is_left();
}

TEST_F(EvalTest, SeveralCallsAreCarriedOutByThoseWhoKnowThem) {
  space_.eval(call("square", 3), "x", call("join", "a", "b"), Nil{}, call("square", 4));
  Workers squares(space_, functions_, 2);
  Workers joins(space_, Functions().add("join", [](std::string_view a, const std::string& b) { return std::string(a) + b; }), 1);
  EXPECT_EQ(to_text(space_.in({any, any, any, any, any})), "(9, \"x\", \"ab\", nil, 16)");
  until_nothing_is_left();
}

TEST_F(EvalTest, FunctionsTakeAndGiveFieldsOfAllTypes) {
  functions_.add("all", [](bool flag, double x, const Bytes& bytes, Nil, const Tuple& inner, const Field& field, int8_t small) {
    return Tuple{flag, x, bytes, inner, field, small};
  });
  functions_.add("nothing", [] { return Nil{}; });
  functions_.add_untyped("arity", [](const Tuple& arguments) { return arguments.arity(); });
  EXPECT_EQ(to_text(*functions_.run(call("all", true, 1.5, Bytes{"b"}, Nil{}, Tuple{1}, "f", -128)).get<Tuple>()),
            "(true, 1.5, b\"b\", (1), \"f\", -128)");
  EXPECT_EQ(functions_.run(call("nothing")).type(), Type::kNil);
  EXPECT_EQ(*functions_.run(call("arity", 1, 2)).get<int64_t>(), 2);
  EXPECT_EQ(functions_.names(), (std::vector<std::string>{"all", "arity", "nothing", "square"}));
}

TEST_F(EvalTest, ACallThatDoesNotFitItsFunctionIsRefused) {
  functions_.add("small", [](uint8_t n) { return n; });
  for (const Call& wrong : {call("square"), call("square", 1, 2), call("square", 1.0), call("square", "1"), call("small", 256),
                            call("small", -1), call("cube", 1)})
    EXPECT_EQ(code_of([&] { functions_.run(wrong); }), std::errc::invalid_argument);
  EXPECT_EQ(code_of([&] { functions_.add("square", [] { return 1; }); }), std::errc::invalid_argument);
}

TEST_F(EvalTest, WithoutACallATupleIsPassiveAtOnce) {
  ActiveTuple tuple;
  space_.eval(tuple.add(1).add("x"));
  EXPECT_TRUE(space_.inp(1, "x"));
  space_.eval(tuple.add(call("square", 2)));
  Workers workers(space_, functions_, 1);
  EXPECT_EQ(space_.in(1, "x", formal<int>), std::tuple(4));
}

TEST_F(EvalTest, ACallWaitsForAWorkerThatKnowsItsFunction) {
  space_.eval("result", call("cube", 2));
  space_.eval("result", call("square", 2));
  {
    Workers squares(space_, functions_, 2);
    EXPECT_EQ(space_.in("result", formal<int>), std::tuple(4));
  }
  EXPECT_EQ(space_.evals().count("todo", "cube", any), 1u);
  Workers cubes(space_, Functions().add("cube", [](int64_t n) { return n * n * n; }), 1);
  EXPECT_EQ(space_.in("result", formal<int>), std::tuple(8));
  until_nothing_is_left();
}

TEST_F(EvalTest, ACallThatFailsIsPutAsideAndTriedAgainWhenThatIsAsked) {
  std::atomic<bool> fails = true;
  functions_.add("maybe", [&](int64_t n) {
    if (fails) throw std::runtime_error("not today");
    return n;
  });
  Workers workers(space_, functions_, 1);
  space_.eval("result", 1, call("maybe", 7));
  EXPECT_EQ(to_text(space_.evals().rd(Template{"failed", any, any, any, any})),
            "(\"failed\", \"maybe\", \"not today\", (\"result\", 1, nil), ((2, \"maybe\", (7))))");
  EXPECT_EQ(calls().tuples, 1u);
  fails = false;
  EXPECT_EQ(retry_failed(space_), 1u);
  EXPECT_EQ(space_.in("result", 1, formal<int>), std::tuple(7));
  EXPECT_EQ(retry_failed(space_), 0u);
  until_nothing_is_left();
}

TEST_F(EvalTest, WhatIsNoFieldOrHasNoRoomForEverIsPutAside) {
  Space small = Space::create(name() + ".small", {.capacity = 4096});
  functions_.add("bad", [] { return std::string("\xff"); });
  functions_.add("throws bad", []() -> int64_t { throw std::runtime_error("\xff"); });
  functions_.add("long", [] { return std::string(5000, 'x'); });
  functions_.add("deep", [] {
    Tuple deep{1};
    for (size_t i = 1; i < kMaxTupleNesting; ++i) deep = Tuple(std::vector<Field>{Field(deep)});
    return deep;
  });
  Workers workers(small, functions_, 1);
  for (const char* function : {"bad", "throws bad", "long", "deep", "square"}) {
    small.eval("result", call(function));
    EXPECT_EQ(to_text(small.evals().in(Template{"failed", function, any, any, any})).find('\xff'), std::string::npos);
  }
  EXPECT_EQ(small.count("result", any), 0u);
  Space::drop(name() + ".small");
}

TEST_F(EvalTest, AResultWaitsForRoom) {
  Space small = Space::create(name() + ".small", {.capacity = 4096});
  while (code_of([&] { small.out("fill"); }) == std::errc{}) {}
  Told told;
  Workers workers(small, functions_, 1);
  small.eval("result", call("square", 5));
  EXPECT_NE(told.line().find("until there is room"), std::string::npos);
  EXPECT_EQ(small.count("result", any), 0u);
  for (int i = 0; i < 3; ++i) small.in("fill");
  EXPECT_EQ(small.in("result", formal<int>), std::tuple(25));
  Space::drop(name() + ".small");
}

TEST_F(EvalTest, AKilledWorkersCallIsCarriedOutByAnother) {
  functions_.add("twice", [this](int64_t n) {
    if (space_.inp("stumble")) raise(SIGKILL);
    return 2 * n;
  });
  space_.out("stumble");
  space_.eval("result", call("twice", 4));
  WorkerProcess first(space_, functions_), second(space_, functions_);
  EXPECT_EQ(space_.in("result", formal<int>), std::tuple(8));
  until_nothing_is_left();
  EXPECT_EQ(space_.count("result", any), 0u);
}

TEST_F(EvalTest, AStoppedWorkerIsOvertakenAndDoesNoHarmWhenItGoesOn) {
  functions_.add("twice", [this](int64_t n) {
    if (space_.inp("stumble")) raise(SIGSTOP);
    return 2 * n;
  });
  space_.out("stumble");
  space_.eval("result", call("twice", 4));
  WorkerProcess stopped(space_, functions_);
  stopped.until_stopped();
  Workers workers(space_, functions_, 2);
  EXPECT_EQ(space_.in("result", formal<int>), std::tuple(8));
  EXPECT_EQ(calls().tuples, 1u);  // what tells the stopped one that it is done
  stopped.go_on();
  until_nothing_is_left();
  EXPECT_EQ(space_.count("result", any), 0u);
}

TEST_F(EvalTest, SeveralStoppedWorkersAreOvertaken) {
  functions_.add("twice", [this](int64_t n) {
    if (space_.inp("stumble", n)) raise(SIGSTOP);
    return 2 * n;
  });
  for (int n = 0; n < 3; ++n) {
    space_.out("stumble", n);
    space_.eval("result", n, call("twice", n));
  }
  WorkerProcess a(space_, functions_), b(space_, functions_), c(space_, functions_);
  for (const auto* stopped : {&a, &b, &c}) stopped->until_stopped();
  Workers workers(space_, functions_, 2);
  for (int n = 0; n < 3; ++n) EXPECT_EQ(space_.in("result", n, formal<int>), std::tuple(2 * n));
}

// The other one has taken the active tuple and is killed, or stopped, before its commit; or commits.
TEST_F(EvalTest, WhoFinishesWhileAnotherDoesWaitsForWhatBecomesOfThat) {
  functions_.add("when told", [this](int64_t n) {
    space_.out("begun");
    space_.in("go");
    return n;
  });
  Workers workers(space_, functions_, 1);
  for (bool commits : {false, true}) {
    space_.eval("result", call("when told", 3));
    space_.in("begun");
    Transaction other(space_);
    Space theirs = other.of(space_.evals());
    Tuple active = theirs.in(Template{"active", any, any, any, any, any});
    EXPECT_FALSE(theirs.inp("todo", any, any));
    theirs.out(Tuple{"active", active[1], active[2], -1, Tuple{}, Tuple{}});
    other.of(space_).out("result", 4);
    space_.out("go");
    until_wait(1);  // it has its result
    EXPECT_EQ(space_.count("result", any), 0u);
    if (commits) other.commit();
    else other.roll_back();
    until_nothing_is_left();
    EXPECT_EQ(space_.in("result", formal<int>), std::tuple(commits ? 4 : 3));
    EXPECT_EQ(space_.count("result", any), 0u);
  }
}

// The worker that has the todo dies after it was overtaken: the next one finds nothing to do.
TEST_F(EvalTest, ATodoThatIsDoneIsTakenAway) {
  std::atomic<int> times = 0;
  functions_.add("counted", [&](int64_t n) { return ++times, n; });
  space_.eval("result", call("counted", 3));
  Tuple active = space_.evals().in(Template{"active", any, any, any, any, any});
  space_.evals().out(Tuple{"active", active[1], active[2], -1, Tuple{}, Tuple{}});
  Workers workers(space_, functions_, 2);
  until_nothing_is_left();
  EXPECT_EQ(times, 0);
  EXPECT_EQ(space_.count("result", any), 0u);
}

TEST_F(EvalTest, AStopLeavesWhatHasNotBeenBegun) {
  Workers workers(space_, functions_, 2);
  until_wait(2);
  workers.stop();
  space_.eval("result", call("square", 3));
  EXPECT_EQ(calls().waiters, 0u);
  EXPECT_EQ(calls().tuples, 2u);
}

TEST_F(EvalTest, IsDroppedWithItsSpace) {
  space_.eval("result", call("square", 3));
  EXPECT_EQ(calls().tuples, 2u);
  Space::drop(name());
  EXPECT_EQ(calls().name, "");
  space_ = Space::create(name());
  Workers workers(space_, functions_, 1);
  space_.eval("result", call("square", 4));
  EXPECT_EQ(space_.in("result", formal<int>), std::tuple(16));
}

TEST_F(EvalTest, IsForSpacesOfThisHostOutsideOfTransactions) {
  Transaction transaction(space_);
  Space within = transaction.of(space_);
  EXPECT_EQ(code_of([&] { within.eval(call("square", 1)); }), std::errc::operation_not_supported);
  EXPECT_EQ(code_of([] { Space("net").eval(call("square", 1)); }), std::errc::operation_not_supported);
  EXPECT_EQ(code_of([] { Transaction(Space("net")); }), std::errc::operation_not_supported);
  EXPECT_EQ(code_of([&] { work(space_, {}); }), std::errc::invalid_argument);
  EXPECT_EQ(code_of([&] { space_.eval(call("\xff")); }), std::errc::illegal_byte_sequence);
  Space longest = Space::create(std::string(63, 'x'));
  EXPECT_EQ(code_of([&] { longest.eval(call("square", 1)); }), std::errc::invalid_argument);
}

TEST_F(EvalTest, OfAnotherHost) {
  TestHost there("there");
  Space far("default", there.home());
  Workers workers(far, functions_, 1);
  far.eval("result", call("square", 6));
  EXPECT_EQ(far.in("result", formal<int>), std::tuple(36));
}

}  // namespace
}  // namespace godwit
