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
    auto moved = move(pod, options);
    ASSERT_TRUE(moved) << i << ": " << moved.error().message() << "; " << pod.fate();
    ASSERT_TRUE(pod.lines("round")) << "after move " << i;
  }
}

// Programs that know nothing of us.

TEST(Move, OfPython) {
  Pod pod({"/usr/bin/python3", "-u", "-c", R"(
import threading, time, zlib
data = bytearray(range(256)) * 4096
def work():
    global rounds
    while True:
        for i in range(0, len(data), 4099): data[i] = (data[i] + 1) & 255
        time.sleep(0.001)
threading.Thread(target=work, daemon=True).start()
n = 0
last = time.monotonic()
while True:
    now = time.monotonic()
    if now < last: print("BAD clock")
    last = now
    d = {str(i): i for i in range(2000)}
    if sum(d.values()) != 1999000: print("BAD sum")
    n += 1
    print("round", n)
    time.sleep(0.002)
)"});
  ASSERT_TRUE(pod.lines("round"));
  for (int i = 0; i < 8; ++i) {
    MoveOptions options;
    options.abort = i % 4 == 2;
    options.foreign_vdso = i % 3 == 1;
    auto moved = move(pod, options);
    ASSERT_TRUE(moved) << moved.error().message() << "; " << pod.fate();
    ASSERT_TRUE(pod.lines("round"));
  }
}

// The figures of the design: about a millisecond, whatever the size.
TEST(Move, IsShort) {
  ::setenv("HEAP_MB", "100", 1);
  Pod pod({victim_path(), "ballast", "counter", "pipes"});
  ::unsetenv("HEAP_MB");
  ASSERT_TRUE(pod.lines("round"));
  double best = 1e9;
  for (int i = 0; i < 8; ++i) {
    MoveFigures figures;
    MoveOptions options;
    options.figures = &figures;
    auto moved = move(pod, options);
    ASSERT_TRUE(moved) << moved.error().message();
    best = std::min(best, figures.blackout_ms);
    const auto& s = figures.source;
    std::printf("blackout %.2f ms: stop %.2f run out %.2f check %.2f state %.2f memory %.2f (%lu KiB) answer %.2f; final %.2f resume %.2f; pause %.2f build %.1f rounds %d sent %lu MiB\n",
                figures.blackout_ms, s.stop_ms, s.run_out_ms, s.check_ms, s.state_ms, s.memory_ms, s.last_bytes >> 10,
                s.answer_ms, figures.target.final_ms, figures.target.resume_ms, s.longest_pause_ms,
                figures.target.build_ms, s.rounds, s.sent_bytes >> 20);
    ASSERT_TRUE(pod.lines("round"));
  }
  EXPECT_LT(best, 50) << "the best of eight, on a machine that may be busy";
}

}  // namespace godwit::migrate::test
