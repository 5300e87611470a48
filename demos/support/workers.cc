#include "support/workers.hh"

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

Workers::Workers(const Crew& crew)
    : crew_(crew),
      name_(program_invocation_short_name + ("-" + std::to_string(getpid()))),
      space_(make_space(name_)) {}

Workers::~Workers() {
  stop();
  try {
    godwit::Space::drop(name_);
  } catch (const godwit::Failure& failure) {
    if (failure.code() != std::errc::no_such_file_or_directory) tell(failure.what());  // somebody else has dropped it
  }
}

void Workers::start(const Work& work) {
  work_ = work;
  for (int64_t who = 0; who < crew_.workers; ++who) pids_.push_back(begin(who));
}

void Workers::look_after(int64_t done, int64_t all) {
  if (interrupted) throw Interrupted{interrupted};
  for (size_t who = 0; who < pids_.size(); ++who) look_at(who);
  int64_t due = all > 1 ? std::min(crew_.kill, done * crew_.kill / (all - 1)) : crew_.kill;  // the last one before all is done
  while (killed_ < due && std::any_of(pids_.begin(), pids_.end(), [](pid_t pid) { return pid != 0; })) kill_one();
}

void Workers::stop() {
  std::erase(pids_, 0);
  for (pid_t worker : pids_) kill(worker, SIGKILL);
  for (pid_t worker : pids_) waitpid(worker, nullptr, 0);
  pids_.clear();
}

pid_t Workers::begin(int64_t who) {
  pid_t master = getpid(), worker = fork();
  if (worker == 0) be_worker(master, who);
  if (worker < 0) throw std::system_error(errno, std::generic_category(), "a worker cannot be started");
  return worker;
}

void Workers::be_worker(pid_t master, int64_t who) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != master) _exit(kFailed);                    // it had died before
  for (int signo : {SIGINT, SIGHUP}) signal(signo, SIG_IGN);  // the terminal's are for the master
  signal(SIGTERM, SIG_DFL);
  try {
    work_(space_, who);
    _exit(0);
  } catch (const std::exception& error) {
    complaint_.say(error.what());
  }
  _exit(kFailed);
}

// Whether it has ended, and how.
void Workers::look_at(size_t who) {
  int status = 0;
  if (pids_[who] == 0 || waitpid(pids_[who], &status, WNOHANG) != pids_[who]) return;
  pids_[who] = 0;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL && WTERMSIG(status) != SIGTERM)
    throw std::runtime_error("a worker died of signal " + std::to_string(WTERMSIG(status)) + "; please report this");
  if (std::string complaint = complaint_.heard(); !complaint.empty()) throw std::runtime_error(complaint);
  ++died_;
  pids_[who] = begin(static_cast<int64_t>(who));
}

void Workers::kill_one() {
  size_t who = random_() % pids_.size();
  while (pids_[who] == 0) who = (who + 1) % pids_.size();
  kill(pids_[who], SIGKILL);
  waitpid(pids_[who], nullptr, 0);  // so that nobody is killed twice
  pids_[who] = begin(static_cast<int64_t>(who));
  ++killed_;
  ++died_;
}

void print_speed(int64_t tasks, int64_t workers, double seconds, double sequential_seconds, int64_t died) {
  std::printf("tasks %lld workers %lld seconds %.3f tasks_per_second %.0f speed_up %.2f sequential_seconds %.3f killed %lld\n",
              static_cast<long long>(tasks), static_cast<long long>(workers), seconds, static_cast<double>(tasks) / seconds,
              sequential_seconds / seconds, sequential_seconds, static_cast<long long>(died));
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
