// The bag of tasks: a space of this run alone, workers that are processes, and a master who gets one result of each task.
//
// The protocol is in tuples, so a demo's worker is plain Linda:
//   ("task", N)             the master puts, a worker takes
//   ("result", N, ...)      the worker puts, the master takes
// What a task works on are other tuples, which workers only read: all that a worker can take to the grave is a task's number.
//
// Any worker may be killed with -9 at any moment. The task that it had taken is nowhere then, and nobody can tell which one it
// was. So the master puts in again whatever it has no result of as soon as the bag is empty ("eager scheduling": Baratloo,
// Dasgupta and Kedem, "Calypso", HPDC 1995), and of two results of a task uses the one that comes first. A task must
// therefore give the same result each time it is done, and change nothing else.
#pragma once
#include <chrono>
#include <functional>
#include <set>
#include <tuple>

#include "support/progress.hh"
#include "support/workers.hh"

namespace demo {

class Bag {
 public:
  explicit Bag(const Crew& crew) : crew_(crew), workers_(crew), space_(workers_.space()) {}

  godwit::Space& space() { return space_; }

  /// Lets the workers do tasks 0 to tasks - 1, and calls use(task, values of type R...) once for each, in any order.
  /// work  what a worker does, from its first task on; it does not return.
  /// returns the seconds that it took.
  template <class... R, class Use>
  double each_result(int64_t tasks, const std::function<void(godwit::Space&)>& work, const Use& use);

  /// The last line of a demo.
  void print_speed(double seconds, double sequential_seconds) const;

 private:
  void start(const std::function<void(godwit::Space&)>& work, int64_t tasks);
  void hand_out_missing();
  void look_after_workers();

  const Crew crew_;
  Workers workers_;
  godwit::Space& space_;
  std::set<int64_t> missing_;  // tasks without a result
  int64_t tasks_ = 0;
};

template <class... R, class Use>
double Bag::each_result(int64_t tasks, const std::function<void(godwit::Space&)>& work, const Use& use) {
  using namespace std::chrono_literals;
  auto began = std::chrono::steady_clock::now();
  Progress progress("workers", tasks);
  start(work, tasks);
  while (!missing_.empty()) {
    look_after_workers();
    if (!space_.rdp("task", godwit::formal<int>)) hand_out_missing();
    auto result = space_.in(20ms, "result", godwit::formal<int>, godwit::formal<R>...);
    if (!result) continue;
    int64_t task = std::get<0>(*result);
    if (missing_.erase(task) == 0) continue;  // it has been done twice
    std::apply(use, *result);
    (void)space_.inp("task", task);  // handed out again meanwhile: nobody need do it
    progress.show(tasks - static_cast<int64_t>(missing_.size()));
  }
  return seconds_since(began);
}

/// The same tasks done here, one after the other: what each_result is compared with. returns the seconds that it took.
double sequentially(int64_t tasks, const std::function<void(int64_t task)>& work);

}  // namespace demo
