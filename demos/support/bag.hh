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
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "support/progress.hh"
#include "tuplespace/space.hh"

namespace demo {

/// How a demo works, whatever it works on.
struct Crew {
  int64_t workers = 2;
  int64_t kill = 0;  // so many workers are killed with -9 meanwhile
};

double seconds_since(std::chrono::steady_clock::time_point start);

/// What the first of the workers that fail says.
class Complaint {
 public:
  Complaint();
  Complaint(const Complaint&) = delete;
  ~Complaint();
  void say(const std::string& what) const;
  std::string heard() const;

 private:
  int ends_[2];  // of a pipe
};

class Bag {
 public:
  /// Makes the space, named for the program and its process. SIGINT, SIGTERM and SIGHUP throw from each_result from now on.
  explicit Bag(const Crew& crew);
  Bag(const Bag&) = delete;
  /// The workers are killed, and the space is dropped with the late results that are in it.
  ~Bag();

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
  pid_t begin_worker();
  [[noreturn]] void be_worker(pid_t master);
  bool has_died(pid_t worker) const;
  using Worker = std::vector<pid_t>::iterator;
  Worker buried(Worker worker);
  void kill_one();

  const Crew crew_;
  const std::string name_;
  Complaint complaint_;
  godwit::Space space_;  // after what can throw: from then on it is dropped
  std::function<void(godwit::Space&)> work_;
  std::vector<pid_t> workers_;  // not yet waited for
  std::set<int64_t> missing_;   // tasks without a result
  int64_t tasks_ = 0;
  int64_t killed_ = 0;  // by us
  int64_t died_ = 0;    // of a signal, whoever sent it
  std::minstd_rand random_;
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

/// Runs a demo. returns its exit status; what went wrong has been told in one line, also that what it printed went nowhere.
int run(const std::function<void()>& demo);

}  // namespace demo
