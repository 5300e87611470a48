// Processes that use one space at once see what one list of tuples could have shown them: one order for all templates,
// also those that look in all stripes.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/wait.h>

#include <algorithm>

#include "tests/support/linearizability.hh"
#include "tests/support/space.hh"
#include "tuplespace/shared/futex.hh"
#include "tuplespace/store/reap.hh"

namespace godwit::testing {
namespace {

using namespace rc;

constexpr int kProcesses = 4, kMostSteps = 15, kRepeats = 10;
enum Verb : int { kOut, kIn, kInp, kRd, kRdp, kCount, kVerbs };

// A few tuples of two shapes, so that they meet, in several stripes.
const std::vector<Tuple> kTuples = {Tuple{"a", 1}, Tuple{"a", 2}, Tuple{"b", 1}, Tuple{"b", 2}, Tuple{"c", 1}, Tuple{"a", "x"}};
const std::vector<Template> kTemplates = {
    Template{"a", 1}, Template{"b", AnyFormal{}}, Template{"a", Formal{Type::kInt}}, Template{AnyFormal{}, 1},
    Template{AnyFormal{}, AnyFormal{}}, Template{Formal{Type::kString}, Range{1, 2}}};

struct Step {
  int verb, tuple, wanted;
};

Gen<std::vector<Step>> any_steps() {
  auto step = gen::map(gen::tuple(gen::weightedElement<int>({{5, kOut}, {2, kIn}, {4, kInp}, {1, kRd}, {2, kRdp}, {1, kCount}}),
                                  gen::inRange(0, static_cast<int>(kTuples.size())),
                                  gen::inRange(0, static_cast<int>(kTemplates.size()))),
                       [](const auto& t) { return Step{std::get<0>(t), std::get<1>(t), std::get<2>(t)}; });
  return gen::resize(kMostSteps, gen::container<std::vector<Step>>(step));
}

// What a process notes of each step, in memory that all share.
struct Note {
  uint64_t begin, end;
  int tuple;  // -1: absent
  uint64_t number;
};
struct Notes {
  std::atomic<int> ready;
  Note of[kProcesses][kMostSteps];
};

int index_of(const Tuple& tuple) {
  auto it = std::find_if(kTuples.begin(), kTuples.end(), [&](const Tuple& one) { return identical(one, tuple); });
  return it == kTuples.end() ? 1000 : static_cast<int>(it - kTuples.begin());
}

void take(Store& space, const Step& step, Note& note) {
  Wait soon{std::chrono::steady_clock::now() + std::chrono::microseconds(300), {}};
  bool waits = step.verb == kIn || step.verb == kRd;
  const AnyOf wanted({kTemplates[static_cast<size_t>(step.wanted)]});
  note.tuple = -1;
  note.begin = shared::monotonic_ns();
  if (step.verb == kOut) {
    (void)put(space, kTuples[static_cast<size_t>(step.tuple)]);
    note.tuple = step.tuple;
  } else if (step.verb == kCount) {
    note.number = space.count(wanted.wanted()).value();
  } else {
    auto verb = step.verb == kIn || step.verb == kInp ? &Store::in : &Store::rd;
    if (auto tuple = get(space, verb, wanted, waits ? &soon : nullptr)) note.tuple = index_of(*tuple);
  }
  note.end = shared::monotonic_ns();
}

Event event_of(const Step& step, const Note& note) {
  static constexpr Event::Kind kKinds[] = {Event::kOut, Event::kTake, Event::kTake, Event::kRead, Event::kRead, Event::kCount};
  Event event{kKinds[step.verb], note.begin, note.end, kTemplates[static_cast<size_t>(step.wanted)], {}, note.number};
  if (note.tuple >= 0) event.tuple = note.tuple < 1000 ? kTuples[static_cast<size_t>(note.tuple)] : Tuple{"alien"};
  return event;
}

void run_process(Store& space, Notes& notes, int process, const std::vector<Step>& steps) {
  ++notes.ready;
  while (notes.ready < kProcesses) shared::thread_yield();
  for (size_t i = 0; i < steps.size(); ++i) take(space, steps[i], notes.of[process][i]);
}

std::vector<Event> run(TestSegment& test, const std::vector<std::vector<Step>>& steps, const SpaceOptions& options) {
  static auto* notes = static_cast<Notes*>(mmap(nullptr, sizeof(Notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  memset(static_cast<void*>(notes), 0, sizeof *notes);
  Store space = Store::create(test.segment(), "one", options).value();
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    children.push_back(fork());
    if (children.back() != 0) continue;
    run_process(space, *notes, p, steps[static_cast<size_t>(p)]);
    _exit(::testing::Test::HasFailure());
  }
  for (pid_t child : children) {
    int status;
    waitpid(child, &status, 0);
    RC_ASSERT(status == 0);
  }
  store::Desk& desk = **store::Desk::of(test.segment());
  store::reap(desk);
  RC_ASSERT(store::drop_space(desk, "one").has_value());
  std::vector<Event> events;
  for (size_t p = 0; p < kProcesses; ++p)
    for (size_t i = 0; i < steps[p].size(); ++i) events.push_back(event_of(steps[p][i], notes->of[p][i]));
  return events;
}

RC_GTEST_PROP(Store, IsOneListForAllProcesses, ()) {
  static TestSegment test(64ull << 20);
  std::vector<std::vector<Step>> steps;
  for (int p = 0; p < kProcesses; ++p) steps.push_back(*any_steps());
  SpaceOptions options{*gen::element<uint64_t>(0, 1 << 20), false};
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    auto events = run(test, steps, options);
    if (!is_linearizable(events)) RC_FAIL("no list allows this history:\n" + describe(events));
  }
}

}  // namespace
}  // namespace godwit::testing
