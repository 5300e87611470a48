// Real programs, moved again and again between "hosts" on this machine.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "harness.hh"

namespace godwit::migrate::test {

#define ASSERT_OK(expression)                                  \
  do {                                                         \
    auto outcome = (expression);                               \
    ASSERT_TRUE(outcome.has_value()) << outcome.error().message(); \
  } while (0)

class MoveOf : public testing::TestWithParam<const char*> {};

TEST_P(MoveOf, GoesUnnoticed) {
  Pod pod({victim_path(), GetParam()});
  ASSERT_TRUE(pod.lines("round"));
  for (int i = 0; i < 10; ++i) {
    MoveOptions options;
    options.abort = i % 4 == 3;
    options.foreign_vdso = i % 3 == 2;
    auto moved = move(pod, options);
    ASSERT_TRUE(moved) << i << ": " << moved.error().message() << "; " << pod.fate();
    ASSERT_TRUE(pod.lines("round")) << "after move " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Part, MoveOf,
                         testing::Values("counter", "heap", "mappings", "break", "vectors", "pipes", "polling", "sleeping",
                                         "signals", "births", "files", "clocks", "stacks", "futexes", "ballast"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Move, OfEverythingAtOnceGoesUnnoticed) {
  Pod pod({victim_path(), "all"});
  ASSERT_TRUE(pod.lines("round"));
  for (int i = 0; i < 20; ++i) {
    MoveOptions options;
    options.abort = i % 5 == 4;
    options.foreign_vdso = i % 7 == 3;
    ASSERT_OK(move(pod, options));
    ASSERT_TRUE(pod.lines("round")) << "after move " << i;
  }
}

}  // namespace godwit::migrate::test
