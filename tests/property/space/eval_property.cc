// Whoever is killed, and however often a call is overtaken, each active tuple becomes a passive one exactly once, and nothing is
// left of it where it waited. With worker processes on a host of its own, and a real node.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <thread>

#include "support/godwit_process.hh"
#include "tuplespace/space/worker.hh"

namespace godwit {
namespace {

using namespace std::chrono_literals;
using namespace test;
using Clock = std::chrono::steady_clock;

void spin(std::chrono::nanoseconds time) {
  for (auto end = Clock::now() + time; Clock::now() < end;) continue;
}

// Killed and waited for at its end.
class Process {
 public:
  explicit Process(const std::function<void()>& act) : pid_(fork()) {
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    try {
      act();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "a process of the test: %s\n", error.what());
    }
    _exit(1);
  }
  Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
  Process& operator=(Process&& other) noexcept {
    std::swap(pid_, other.pid_);
    return *this;
  }
  ~Process() {
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);
    wait_for(pid_);
  }

 private:
  pid_t pid_;
};

struct Plan {
  int calls, workers, kills, microseconds;  // a call takes up to so many
  bool overtakes;                           // whenever somebody is idle
  bool kills_evaluator;
};

// Where each call says how it went: ("result", N, twice N, N + 1).
class Trial {
 public:
  explicit Trial(const Plan& plan) : plan_(plan), space_(Space::create("run")) {
    functions_.add("twice", [this](int64_t n) { return busy(n), 2 * n; });
    functions_.add("next", [this](int64_t n) { return busy(n), n + 1; });
    while (static_cast<int>(workers_.size()) < plan.workers) workers_.push_back(worker());
  }
  ~Trial() {
    workers_.clear();
    Space::drop("run");
  }

  void go() {
    Subscription come = space_.evals().subscribe("active", formal<int>, "twice", 0, formal<Tuple>, any);
    std::optional<Process> evaluator;
    if (plan_.kills_evaluator) evaluator.emplace([&] { eval_all(); });
    else eval_all();
    for (int kills = 0; kills < plan_.kills; ++kills) {
      take();
      kill_one();
    }
    evaluator.reset();
    eval(plan_.calls);  // after which what the evaluator had half done is done, or not
    const int64_t number = until_last(come);
    RC_ASSERT(plan_.kills_evaluator || number == plan_.calls + 1);
    while (taken_ < number) take();
    until_nothing_waits();
    RC_ASSERT(space_.count("result", any, any, any) == 0u);
    check(number);
  }

 private:
  Process worker() {
    return Process([this] {
      Pace pace;
      if (plan_.overtakes) pace = {100us, 0us, 0us, 0};
      work(space_, functions_, {}, pace);
    });
  }
  void busy(int64_t n) const { spin(std::chrono::microseconds((n * 7919) % (plan_.microseconds + 1))); }

  void eval(int n) { space_.eval("result", n, call("twice", n), call("next", n)); }
  void eval_all() {
    for (int n = 0; n < plan_.calls; ++n) eval(n);
  }
  void kill_one() {
    auto which = *rc::gen::inRange<size_t>(0, workers_.size());
    spin(std::chrono::microseconds(*rc::gen::inRange(0, 300)));
    workers_[which] = worker();
  }

  // How many were put in.
  int64_t until_last(Subscription& come) const {
    for (int64_t number = 1;; ++number)
      if (Tuple active = come.next(); *(*active[4].get<Tuple>())[1].get<int64_t>() == plan_.calls) return number;
  }
  void take() {
    auto [n, twice, next] = space_.in("result", formal<int>, formal<int>, formal<int>);
    RC_ASSERT(twice == 2 * n);
    RC_ASSERT(next == n + 1);
    ++times_[n];
    ++taken_;
  }
  void until_nothing_waits() const {
    auto waits = [] {
      for (const SpaceFacts& facts : Space::list())
        if (facts.name == "run.eval") return facts.tuples != 0;
      return false;
    };
    while (waits()) std::this_thread::yield();
  }
  // Each of the first ones, and the last one, once.
  void check(int64_t number) {
    for (auto [n, times] : times_) RC_ASSERT(times == 1);
    RC_ASSERT(times_.contains(plan_.calls));
    RC_ASSERT(number == 1 || times_.contains(number - 2));
  }

  const Plan plan_;
  Space space_;
  Functions functions_;
  std::vector<Process> workers_;
  std::map<int64_t, int> times_;  // that the result of a call was taken
  int64_t taken_ = 0;
};

// Of this program.
void use_own_host() {
  static TestHost host("here");
  setenv("GODWIT_EXECUTABLE", GODWIT_BINARY, 1);
  setenv("GODWIT_HOME", host.home().c_str(), 1);
}

RC_GTEST_PROP(Eval, EachResultAppearsExactlyOnceWhoeverIsKilled, ()) {
  use_own_host();
  Plan plan{};
  plan.calls = *rc::gen::inRange(10, 50);
  plan.workers = *rc::gen::inRange(1, 5);
  plan.kills = *rc::gen::inRange(0, 10);
  plan.microseconds = *rc::gen::element(0, 50, 500);
  plan.overtakes = *rc::gen::arbitrary<bool>();
  plan.kills_evaluator = *rc::gen::arbitrary<bool>();
  Trial(plan).go();
}

}  // namespace
}  // namespace godwit
