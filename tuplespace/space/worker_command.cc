// godwit worker: keeps processes of a program going that carry out calls (eval.hh).
#include "tuplespace/space/worker_command.hh"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "tuplespace/eval.hh"
#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/space/worker_order.hh"

namespace godwit {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::string_view kUsage =
    R"(usage: godwit worker [--workers N] [--space S] [--retry-failed] PROGRAM [ARGS...]

Starts processes of PROGRAM that carry out the calls of a space's active tuples, and replaces those that
end, until it is interrupted or gets SIGTERM; then they end as well. PROGRAM's main begins with

   if (auto status = godwit::work_if_asked(functions)) return *status;

A call that fails is put aside as ("failed", FUNCTION, MESSAGE, FIELDS, CALLS) in the space S.eval:

   godwit rd '("failed", ?, ?, ?, ?)' --space default.eval

   --workers N      so many processes (default: as many as there are processors)
   --space S        the space (default: default); see godwit spaces
   --retry-failed   has the calls that have failed so far tried again
)";

constexpr Clock::duration kFirstPause = 100ms, kLongestPause = 10s;  // before a process that has ended is replaced
constexpr Clock::duration kLongLife = 10s;                           // after which the pause is the first one again
constexpr Clock::duration kTimeToAccept = 10s;
constexpr Clock::duration kTimeToEnd = 2s;
constexpr timespec kTick{0, 100'000'000};
constexpr int kNotExecutable = 126, kNotFound = 127;
constexpr char kNotStarted = 'x';  // answered in the place of WorkerOrder::kAccepted, with an errno behind it
constexpr const char* kAdvice = "; its main is to begin with godwit::work_if_asked";

struct Process {
  pid_t pid = 0;              // 0: none runs, ...
  Clock::time_point since{};  // ... and is to from then on
  Clock::duration pause = kFirstPause;
  UniqueFd answer;            // where it answers to its order
  char said[2] = {};          // there; 0: nothing yet
};

std::string how_it_ended(int status) {
  return WIFSIGNALED(status) ? "was ended by signal " + std::to_string(WTERMSIG(status))
                             : "ended with status " + std::to_string(WEXITSTATUS(status));
}

class Crew {
 public:
  Crew(std::vector<std::string> program, std::string space, size_t number)
      : program_(std::move(program)), space_(std::move(space)), processes_(number) {
    for (std::string& word : program_) argv_.push_back(word.data());
    argv_.push_back(nullptr);
    sigemptyset(&signals_);
    for (int signo : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) sigaddset(&signals_, signo);
    sigprocmask(SIG_BLOCK, &signals_, &before_);
  }

  /// Until it is told to end, or the program will not do. returns the exit status.
  int run() {
    std::optional<int> status;
    while (!status) {
      for (Process& process : processes_)
        if (process.pid == 0 && process.since <= Clock::now()) begin(process);
      if (is_told_to_end()) status = kDone;
      for (Process& process : processes_)
        if (!status && process.pid) status = look_at(process);
    }
    end();
    return *status;
  }

 private:
  void begin(Process& process) {
    int ends[2];
    process.since = Clock::now();
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
      return begin_later(process, std::string("no pipe can be made: ") + std::strerror(errno));
    process.answer = UniqueFd(ends[0]);
    process.said[0] = 0;
    UniqueFd answer(ends[1]);
    ::setenv(WorkerOrder::kVariable, WorkerOrder{answer.get(), space_}.text().c_str(), 1);
    const pid_t ours = ::getpid(), child = ::fork();
    if (child == 0) become_worker(ours, answer.get());
    if (child < 0) return begin_later(process, std::string("no process can be made: ") + std::strerror(errno));
    process.pid = child;
  }

  [[noreturn]] void become_worker(pid_t parent, int answer) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(kBroken);  // it had died before
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
    ::dup2(::open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);  // several cannot share one
    ::fcntl(answer, F_SETFD, 0);
    ::execvp(argv_[0], argv_.data());
    const char why[] = {kNotStarted, static_cast<char>(errno)};
    (void)!::write(answer, why, sizeof why);
    ::_exit(kBroken);
  }

  void begin_later(Process& process, const std::string& why) {
    const auto now = Clock::now();
    if (now - process.since > kLongLife) process.pause = kFirstPause;
    process.since = now + process.pause;
    const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(process.pause).count();
    fail("worker", kDone, why + "; another is started in " + std::to_string(milliseconds) + " ms");
    process.pause = std::min(2 * process.pause, kLongestPause);
  }

  // Until a signal comes; or for a tick, while there is something that no signal tells.
  bool is_told_to_end() {
    auto works = [](const Process& process) { return process.pid && process.said[0]; };
    const bool all_work = std::all_of(processes_.begin(), processes_.end(), works);
    const int signo = ::sigtimedwait(&signals_, nullptr, all_work ? nullptr : &kTick);
    return signo == SIGINT || signo == SIGTERM || signo == SIGHUP;
  }

  // returns the exit status, if the program will not do.
  std::optional<int> look_at(Process& process) {
    int how = 0;
    const bool ended = ::waitpid(process.pid, &how, WNOHANG) == process.pid;
    if (!process.said[0]) (void)!::read(process.answer.get(), process.said, sizeof process.said);
    if (!ended) return complain_of_silence(process), std::nullopt;
    const std::string who = "process " + std::to_string(std::exchange(process.pid, 0)) + " ";
    if (process.said[0] == kNotStarted) return not_started(process.said[1]);
    if (!process.said[0] && WIFEXITED(how))
      return fail("worker", kRefused, program_[0] + " has not asked for work, and " + how_it_ended(how) + kAdvice);
    begin_later(process, who + how_it_ended(how));
    return std::nullopt;
  }

  int not_started(int error) {
    const bool is_missing = error == ENOENT || error == ENOTDIR;
    return fail("worker", is_missing ? kNotFound : kNotExecutable,
                "cannot run " + program_[0] + ": " + std::strerror(error) + "; name an executable, with its folder or in PATH");
  }

  void complain_of_silence(const Process& process) {
    if (complained_ || process.said[0] || Clock::now() - process.since < kTimeToAccept) return;
    complained_ = true;
    fail("worker", kDone, program_[0] + " runs and has not asked for work yet" + kAdvice);
  }

  void end() {
    for (int signo : {SIGTERM, SIGKILL}) {  // the second one for those that are stopped
      for (const Process& process : processes_)
        if (process.pid) ::kill(process.pid, signo);
      await(signo == SIGKILL ? Clock::time_point::max() : Clock::now() + kTimeToEnd);
    }
  }

  // Until none runs.
  void await(Clock::time_point deadline) {
    while (Clock::now() < deadline) {
      bool some = false;
      for (Process& process : processes_) {
        if (process.pid && ::waitpid(process.pid, nullptr, WNOHANG) == process.pid) process.pid = 0;
        some |= process.pid != 0;
      }
      if (!some) return;
      (void)::sigtimedwait(&signals_, nullptr, &kTick);
    }
  }

  std::vector<std::string> program_;
  std::vector<char*> argv_;  // of program_
  const std::string space_;
  std::vector<Process> processes_;
  sigset_t signals_, before_;
  bool complained_ = false;
};

int worker(const Args& args) {
  static constexpr std::array<OptionSpec, 3> kSpecs = {{{"--workers", Takes::kValue}, {"--space", Takes::kValue}, {"--retry-failed"}}};
  auto options = Options::parse(args, kSpecs, true);
  if (!options) return usage_error("worker", options.error().what);
  if (options->words().empty()) return usage_error("worker", "a PROGRAM is needed");
  const std::string number = options->value("--workers").value_or(std::to_string(std::max(1u, std::thread::hardware_concurrency())));
  auto workers = parse_number(number, 1000);
  if (!workers || *workers == 0) return usage_error("worker", "--workers takes a number from 1 to 1000, not '" + number + "'");
  const std::string space = options->value("--space").value_or(kDefaultSpace);
  try {
    Space here(space);
    (void)here.evals();  // or that there are none is told once
    if (options->has("--retry-failed")) retry_failed(here);
  } catch (const Failure& failure) {
    return fail("worker", failure.error());
  }
  return Crew(options->words(), space, *workers).run();
}

constexpr Command kCommands[] = {{"worker", "carry out calls of active tuples", kUsage, worker, true}};

}  // namespace

std::span<const Command> worker_commands() { return kCommands; }

}  // namespace godwit
