// Worker processes around a space of this run alone. Any of them may be killed with -9 at any moment: another takes its number.
#pragma once
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

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

class Workers {
 public:
  /// What a worker does, whose number is `who`. One that returns has done its part. One that throws ends the demo: another would
  /// fail again. One that is killed, or exits in the middle, is replaced.
  using Work = std::function<void(godwit::Space&, int64_t who)>;

  /// Makes the space, named for the program and its process. SIGINT, SIGTERM and SIGHUP throw from look_after from now on.
  explicit Workers(const Crew& crew);
  Workers(const Workers&) = delete;
  /// The workers are killed, and the space is dropped with what is in it.
  ~Workers();

  godwit::Space& space() { return space_; }
  /// Starts those with the numbers 0 to crew.workers - 1.
  void start(const Work& work);
  /// Ends the demo when it was told to, replaces who has died, and kills as the crew was asked to: evenly over the run, of which
  /// `done` of `all` is done. To be called often.
  void look_after(int64_t done, int64_t all);
  /// Kills them all. They are not replaced.
  void stop();
  /// How many ended before their time, whoever killed them.
  int64_t died() const { return died_; }

 private:
  pid_t begin(int64_t who);
  [[noreturn]] void be_worker(pid_t master, int64_t who);
  void look_at(size_t who);
  void kill_one();

  const Crew crew_;
  const std::string name_;
  Complaint complaint_;
  godwit::Space space_;  // after what can throw: from then on it is dropped
  Work work_;
  std::vector<pid_t> pids_;  // by number; 0: its part is done
  int64_t killed_ = 0;       // by us
  int64_t died_ = 0;
  std::minstd_rand random_;
};

/// The last line of a demo whose tasks can also be done one after the other.
void print_speed(int64_t tasks, int64_t workers, double seconds, double sequential_seconds, int64_t died);

/// Runs a demo. returns its exit status; what went wrong has been told in one line, also that what it printed went nowhere.
int run(const std::function<void()>& demo);

}  // namespace demo
