#include "support/bag.hh"

namespace demo {

void Bag::start(const std::function<void(godwit::Space&)>& work, int64_t tasks) {
  tasks_ = tasks;
  for (int64_t task = 0; task < tasks; ++task) missing_.insert(missing_.end(), task);
  workers_.start([work](godwit::Space& space, int64_t) { work(space); });
}

void Bag::hand_out_missing() {
  for (int64_t task : missing_) space_.out("task", task);
}

// Between two results.
void Bag::look_after_workers() { workers_.look_after(tasks_ - static_cast<int64_t>(missing_.size()), tasks_); }

void Bag::print_speed(double seconds, double sequential_seconds) const {
  demo::print_speed(tasks_, crew_.workers, seconds, sequential_seconds, workers_.died());
}

double sequentially(int64_t tasks, const std::function<void(int64_t)>& work) {
  auto began = std::chrono::steady_clock::now();
  Progress progress("sequential", tasks);
  for (int64_t task = 0; task < tasks; ++task) {
    work(task);
    progress.show(task + 1);
  }
  return seconds_since(began);
}

}  // namespace demo
