// The engine dies or fails at each of its points: there must be one running program afterwards, never two
// and never none.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.hh"
#include "migrate/adopt.hh"
#include "migrate/proc.hh"
#include "tuplespace/fault.hh"

namespace godwit::migrate::test {

namespace {

std::vector<std::string> points_of(const std::string& prefix) {
  std::vector<std::string> names;
  for (auto name : fault_points())
    if (name.starts_with(prefix)) names.emplace_back(name);
  return names;
}

std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (c == '.') c = '_';
  return name;
}

bool alive(pid_t pid) {
  std::string state(line_after(read_text(proc_path(pid, "status")), "State:\t"));
  return !state.empty() && state[0] != 'Z';
}

// All processes of the pod's program that exist: same executable as the victim.
std::vector<pid_t> copies() {
  std::vector<pid_t> found;
  for (int pid : numeric_names("/proc"))
    if (alive(pid) && read_link(proc_path(pid, "exe")).find("migrate_victim") != std::string::npos) found.push_back(pid);
  return found;
}

}  // namespace

class EngineKilledAt : public testing::TestWithParam<std::string> {};

// The engine of both hosts is one process here. Whatever it leaves is stopped or running by itself; what is
// stopped can be adopted.
TEST_P(EngineKilledAt, LeavesAProgramThatGoesOn) {
  Pod pod({victim_path(), "counter", "pipes", "sleeping", "clocks"});
  ASSERT_TRUE(pod.lines("round"));
  pid_t engine = ::fork();
  if (engine == 0) {
    fault_in_force().set(GetParam().c_str());
    MoveOptions options;
    options.abort = GetParam().find("thawing") != std::string::npos || GetParam().find("abandoning") != std::string::npos;
    (void)move_once(pod, options);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(engine, &status, 0), engine);
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "the point was not passed";

  // A copy that was not complete dies with the engine.
  const bool before_commit = GetParam().starts_with("move.source") && GetParam().find("discard") == std::string::npos;
  std::vector<pid_t> left;
  ASSERT_TRUE(eventually([&] {
    left = copies();
    return !left.empty() && left.size() <= 2;
  }));
  // As after a crash, the directory decides: here, the source if it is still there and nothing was committed.
  bool source_lives = alive(pod.pid());
  pid_t keep = source_lives && GetParam().find("resum") == std::string::npos ? pod.pid() : 0;
  for (pid_t p : left)
    if (!keep && p != pod.pid()) keep = p;
  ASSERT_NE(keep, 0);
  EXPECT_TRUE(source_lives || !before_commit);
  for (pid_t p : left)
    if (p != keep) (void)adopt_and_kill(p);
  pod.set_pid(keep);
  while (!pod.line(Clock::now()).empty()) {
  }
  // A stop that the engine has asked for may take effect only after its death.
  int rounds = 0;
  EXPECT_TRUE(eventually([&] {
    if (is_left_behind(keep)) (void)adopt_and_continue(keep, 0);
    std::string line = pod.line(Clock::now() + std::chrono::milliseconds(20));
    EXPECT_FALSE(line.starts_with("BAD")) << line;
    rounds += line.starts_with("round");
    return rounds == 5;
  })) << pod.fate();
}

INSTANTIATE_TEST_SUITE_P(Point, EngineKilledAt, testing::ValuesIn(points_of("move.")), test_name);

TEST(Crash, OfAFrozenEngineLeavesTheProgramStopped) {
  Pod pod({victim_path(), "counter", "futexes"});
  ASSERT_TRUE(pod.lines("round"));
  pid_t engine = ::fork();
  if (engine == 0) {
    fault_in_force().set("move.source.frozen");
    (void)move_once(pod);
    ::_exit(0);
  }
  ASSERT_EQ(::waitpid(engine, nullptr, 0), engine);
  ASSERT_TRUE(eventually([&] { return is_left_behind(pod.pid()); }));
  while (!pod.line(Clock::now()).empty()) {
  }
  EXPECT_TRUE(is_left_behind(pod.pid()));
  EXPECT_TRUE(pod.line(Clock::now() + std::chrono::milliseconds(50)).empty()) << "it runs";
  ASSERT_TRUE(adopt_and_continue(pod.pid(), 0));
  EXPECT_TRUE(pod.lines("round"));
}

class EngineFailsAt : public testing::TestWithParam<std::string> {};

TEST_P(EngineFailsAt, ThawsAndMayTryAgain) {
  Pod pod({victim_path(), "counter", "pipes", "polling"});
  ASSERT_TRUE(pod.lines("round"));
  fault_in_force().set((GetParam() + ":error").c_str());
  auto moved = move_once(pod);
  fault_in_force().set("");
  EXPECT_FALSE(moved) << "the point cannot fail";
  EXPECT_TRUE(pod.lines("round"));
  moved = move(pod);
  ASSERT_TRUE(moved) << moved.error().message();
  EXPECT_TRUE(pod.lines("round"));
}

INSTANTIATE_TEST_SUITE_P(Point, EngineFailsAt,
                         testing::Values("move.source.surveyed", "move.source.first_round", "move.source.precopied",
                                         "move.source.frozen", "move.source.handed_over", "move.target.spawned",
                                         "move.target.prepared", "move.target.built", "move.target.complete"),
                         test_name);

}  // namespace godwit::migrate::test
