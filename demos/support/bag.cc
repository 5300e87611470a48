#include "support/bag.hh"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace demo {
namespace {

constexpr int kFailed = 1;  // exit status

struct Interrupted {
  int signo;
};
volatile sig_atomic_t interrupted = 0;  // the signal

// Signals first, so that none ends us between making the space and dropping it.
godwit::Space make_space(const std::string& name) {
  for (int signo : {SIGINT, SIGTERM, SIGHUP}) signal(signo, [](int caught) { interrupted = caught; });
  return godwit::Space::create(name);
}

void tell(const char* what) { std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, what); }

}  // namespace

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Complaint::Complaint() {
  if (pipe2(ends_, O_CLOEXEC | O_NONBLOCK) != 0) throw std::system_error(errno, std::generic_category(), "a pipe cannot be made");
}

Complaint::~Complaint() {
  for (int end : ends_) close(end);
}

void Complaint::say(const std::string& what) const { (void)!write(ends_[1], (what + "\n").c_str(), what.size() + 1); }

std::string Complaint::heard() const {
  char text[512];
  ssize_t length = read(ends_[0], text, sizeof text);
  std::string all(text, static_cast<size_t>(std::max<ssize_t>(length, 0)));
  return all.substr(0, all.find('\n'));
}

Bag::Bag(const Crew& crew)
    : crew_(crew),
      name_(program_invocation_short_name + ("-" + std::to_string(getpid()))),
      space_(make_space(name_)) {}

Bag::~Bag() {
  for (pid_t worker : workers_) kill(worker, SIGKILL);
  for (pid_t worker : workers_) waitpid(worker, nullptr, 0);
  try {
    godwit::Space::drop(name_);
  } catch (const godwit::Failure& failure) {
    if (failure.code() != std::errc::no_such_file_or_directory) tell(failure.what());  // somebody else has dropped it
  }
}

void Bag::start(const std::function<void(godwit::Space&)>& work, int64_t tasks) {
  work_ = work;
  tasks_ = tasks;
  for (int64_t task = 0; task < tasks; ++task) missing_.insert(missing_.end(), task);
}

pid_t Bag::begin_worker() {
  pid_t master = getpid(), worker = fork();
  if (worker == 0) be_worker(master);
  if (worker < 0) throw std::system_error(errno, std::generic_category(), "a worker cannot be started");
  return worker;
}

void Bag::be_worker(pid_t master) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != master) _exit(kFailed);                    // it had died before
  for (int signo : {SIGINT, SIGHUP}) signal(signo, SIG_IGN);  // the terminal's are for the master
  signal(SIGTERM, SIG_DFL);
  try {
    work_(space_);
  } catch (const std::exception& error) {
    complaint_.say(error.what());
  }
  _exit(kFailed);
}

// Of a signal, that is. A worker that fails would fail again.
bool Bag::has_died(pid_t worker) const {
  siginfo_t end{};
  waitid(P_PID, static_cast<id_t>(worker), &end, WEXITED | WNOHANG | WNOWAIT);
  if (end.si_pid == 0) return false;
  if (end.si_code == CLD_EXITED) throw std::runtime_error(complaint_.heard());
  if (end.si_status != SIGKILL && end.si_status != SIGTERM)
    throw std::runtime_error("a worker died of signal " + std::to_string(end.si_status) + "; please report this");
  return true;
}

// returns the next.
Bag::Worker Bag::buried(Worker worker) {
  waitpid(*worker, nullptr, 0);
  ++died_;
  return workers_.erase(worker);
}

void Bag::hand_out_missing() {
  for (int64_t task : missing_) space_.out("task", task);
}

// Between two results: ends when it was told to, kills as it was asked to, and replaces the dead.
void Bag::look_after_workers() {
  if (interrupted) throw Interrupted{interrupted};
  for (auto worker = workers_.begin(); worker != workers_.end();)
    worker = has_died(*worker) ? buried(worker) : worker + 1;
  while (workers_.size() < static_cast<size_t>(crew_.workers)) workers_.push_back(begin_worker());
  int64_t done = tasks_ - static_cast<int64_t>(missing_.size());
  if (done * (crew_.kill + 1) >= (killed_ + 1) * tasks_) kill_one();  // evenly over the run
}

void Bag::kill_one() {
  auto worker = workers_.begin() + static_cast<std::ptrdiff_t>(random_() % workers_.size());
  kill(*worker, SIGKILL);
  buried(worker);  // so that nobody is killed twice
  ++killed_;
}

void Bag::print_speed(double seconds, double sequential_seconds) const {
  std::printf("tasks %lld workers %lld seconds %.3f tasks_per_second %.0f speed_up %.2f sequential_seconds %.3f killed %lld\n",
              static_cast<long long>(tasks_), static_cast<long long>(crew_.workers), seconds, static_cast<double>(tasks_) / seconds,
              sequential_seconds / seconds, sequential_seconds, static_cast<long long>(died_));
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

int run(const std::function<void()>& demo) {
  try {
    demo();
    if (std::fflush(stdout) != 0 || std::ferror(stdout))
      throw std::runtime_error("the result cannot be printed; see where stdout leads");
    return 0;
  } catch (const Interrupted& by) {
    signal(by.signo, SIG_DFL);  // whoever waits for us sees what ended us
    raise(by.signo);
  } catch (const std::exception& error) {
    tell(error.what());
  }
  return kFailed;
}

}  // namespace demo
