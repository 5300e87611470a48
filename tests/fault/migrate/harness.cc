// Tests run inside a PID namespace of their own (main, below), so that whatever they leave dies with them.
#include "harness.hh"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "migrate/proc.hh"
#include "migrate/spawn.hh"
#include "tuplespace/posix/proxy_vdso/proxy_vdso.hh"

namespace godwit::migrate::test {

// ---------------------------------------------------------------- channel

namespace {

int milliseconds_until(Deadline deadline) {
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return left < 0 ? 0 : static_cast<int>(std::min<long long>(left + 1, 1'000'000));
}

class SocketChannel : public Channel {
 public:
  explicit SocketChannel(int fd) : socket_(fd) {}
  Result<void> send(std::string message) override {
    uint64_t size = message.size();
    message.insert(0, reinterpret_cast<char*>(&size), sizeof size);
    for (size_t done = 0; done < message.size();) {
      ssize_t n = ::send(socket_.get(), message.data() + done, message.size() - done, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno_error("send");
      done += static_cast<size_t>(n);
    }
    return {};
  }
  Result<std::string> receive(Deadline deadline) override {
    uint64_t size = 0;
    if (auto r = take(&size, sizeof size, deadline); !r) return r.error();
    std::string message(size, '\0');
    if (auto r = take(message.data(), size, deadline); !r) return r.error();
    return message;
  }

 private:
  Result<void> take(void* to, size_t size, Deadline deadline) {
    for (size_t done = 0; done < size;) {
      pollfd p{socket_.get(), POLLIN, 0};
      if (::poll(&p, 1, milliseconds_until(deadline)) == 0) return make_error(std::errc::timed_out, "receive");
      ssize_t n = ::recv(socket_.get(), static_cast<char*>(to) + done, size - done, 0);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return make_error(std::errc::connection_reset, "receive");
      done += static_cast<size_t>(n);
    }
    return {};
  }
  UniqueFd socket_;
};

}  // namespace

std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>> channel_pair() {
  int ends[2];
  GODWIT_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  return {std::make_unique<SocketChannel>(ends[0]), std::make_unique<SocketChannel>(ends[1])};
}

// ---------------------------------------------------------------- pods

namespace {

[[noreturn]] void become_program(char** arguments, int in, int out, int go) {
  char byte;
  if (::read(go, &byte, 1) != 1) ::_exit(1);  // until it is traced, so that the exec is seen
  ::dup2(in, 0);
  ::dup2(out, 1);
  ::dup2(out, 2);
  ::syscall(SYS_close_range, 3, ~0u, 0);
  ::setsid();
  ::execv(arguments[0], arguments);
  ::_exit(127);
}

pid_t only_child(pid_t pid) {
  std::string id = std::to_string(pid);
  return static_cast<pid_t>(std::strtol(read_text("/proc/" + id + "/task/" + id + "/children").c_str(), nullptr, 10));
}

void write_text(const char* path, const std::string& text) {
  UniqueFd file(::open(path, O_WRONLY | O_CLOEXEC));
  GODWIT_CHECK(::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

void trace_exec(pid_t pid, int go, bool proxy) {
  GODWIT_CHECK(::ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEEXEC) == 0);
  GODWIT_CHECK(::write(go, "x", 1) == 1);
  int status = 0;
  GODWIT_CHECK(::waitpid(pid, &status, __WALL) == pid && status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8));
  GODWIT_CHECK(::ptrace(PTRACE_SYSCALL, pid, 0, 0) == 0 && ::waitpid(pid, &status, __WALL) == pid);
  if (proxy) {
    auto installed = install_proxy_vdso(pid);
    EXPECT_TRUE(installed) << installed.error().message();
  }
  GODWIT_CHECK(::ptrace(PTRACE_DETACH, pid, 0, 0) == 0);
}

}  // namespace

Pod::Pod(std::vector<std::string> command, Options options) {
  int out[2], in[2], go[2], ready[2];
  GODWIT_CHECK(::pipe2(out, O_CLOEXEC) == 0 && ::pipe2(in, O_CLOEXEC) == 0 && ::pipe2(go, O_CLOEXEC) == 0 && ::pipe2(ready, O_CLOEXEC) == 0);
  reading_.reset(out[0]), writing_.reset(out[1]), input_reading_.reset(in[0]), input_writing_.reset(in[1]);
  UniqueFd go_there(go[0]), go_here(go[1]), ready_here(ready[0]), ready_there(ready[1]);
  std::vector<char*> arguments;
  for (std::string& a : command) arguments.push_back(a.data());
  arguments.push_back(nullptr);
  pid_t waiter = ::fork();
  if (waiter == 0) {
    bool user = ::geteuid() != 0;
    uid_t uid = ::geteuid();
    gid_t gid = ::getegid();
    GODWIT_CHECK(::unshare((user ? CLONE_NEWUSER : 0) | CLONE_NEWPID | 0x80) == 0);
    if (user) {
      write_text("/proc/self/setgroups", "deny");
      write_text("/proc/self/uid_map", std::to_string(uid) + " " + std::to_string(uid) + " 1");
      write_text("/proc/self/gid_map", std::to_string(gid) + " " + std::to_string(gid) + " 1");
    }
    if (::fork() == 0) {
      pid_t program = ::fork();
      if (program == 0) become_program(arguments.data(), in[0], out[1], go[0]);
      GODWIT_CHECK(::write(ready[1], "x", 1) == 1);
      ::dup2(out[1], 1);
      ::syscall(SYS_close_range, 2, ~0u, 0);
      int status;
      while (::waitpid(-1, &status, 0) != program) {
      }
      // SIGKILL is the end of a copy that has been moved away, anything else an accident.
      if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) ::dprintf(1, "BAD end, status %#x\n", status);
      ::_exit(0);
    }
    ::syscall(SYS_close_range, 0, ~0u, 0);
    ::wait(nullptr);
    ::_exit(0);
  }
  char byte;
  GODWIT_CHECK(::read(ready_here.get(), &byte, 1) == 1);
  pid_ = only_child(only_child(waiter));
  GODWIT_CHECK(pid_ > 0);
  trace_exec(pid_, go_here.get(), options.proxy_vdso);
}

Pod::~Pod() {
  if (pid_ > 0) ::kill(pid_, SIGKILL);
}

std::string Pod::line(Deadline deadline) {
  for (;;) {
    size_t end = buffer_.find('\n');
    if (end != buffer_.npos) {
      std::string found = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return found;
    }
    pollfd p{reading_.get(), POLLIN, 0};
    if (::poll(&p, 1, milliseconds_until(deadline)) <= 0) return {};
    char part[4096];
    ssize_t n = ::read(reading_.get(), part, sizeof part);
    if (n <= 0) return {};
    buffer_.append(part, static_cast<size_t>(n));
  }
}

testing::AssertionResult Pod::lines(const std::string& prefix, int count) {
  Deadline deadline = in_seconds(30);
  while (count > 0) {
    std::string text = line(deadline);
    if (text.empty())
      return testing::AssertionFailure() << "no line \"" << prefix << "\"; " << fate();
    if (text.starts_with("BAD")) return testing::AssertionFailure() << text;
    if (text.starts_with(prefix)) --count;
  }
  return testing::AssertionSuccess();
}

std::string Pod::fate() {
  for (std::string text; !(text = line(Clock::now())).empty();)
    if (text.starts_with("BAD")) return text;
  std::string state(line_after(read_text(proc_path(pid_, "status")), "State:"));
  if (!state.empty() && state[1] != 'Z') return "the program is" + state;
  int status = 0;
  if (waiter_ && ::waitpid(waiter_, &status, 0) == waiter_ && WIFEXITED(status))
    return "the program has ended, " + std::to_string(WEXITSTATUS(status)) + " (128 + signal)";
  return "the program has ended";
}

void Pod::tell(const std::string& text) {
  GODWIT_CHECK(::write(input_writing_.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

// ---------------------------------------------------------------- moves

Result<void> move_once(Pod& pod, const MoveOptions& options) {
  auto [here, there] = channel_pair();
  ArrivalHost host;
  pid_t waiter = 0;
  host.spawn = [&](const SpawnRequest& request) { return spawn_in_namespaces(request, &waiter); };
  host.replace = [&](uint32_t number, const std::string&, uint32_t) -> std::optional<UniqueFd> {
    return UniqueFd(::dup(number == 0 ? pod.input() : pod.output()));
  };
  host.foreign_vdso = options.foreign_vdso;
  if (options.host) options.host(host);

  // The commit of this test: what the source says after the hand-over.
  enum class Commit { kNone, kMoved, kStays };
  int pair[2];
  GODWIT_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
  UniqueFd commit_here(pair[0]), commit_there(pair[1]);

  Result<std::string> arrived = std::string();
  ArrivalFigures target_figures;
  pid_t new_pid = 0;
  Clock::time_point resumed{};
  std::thread target([&] {
    Arrival arrival(std::move(host));
    arrived = arrival.run(*there, in_seconds(60));
    Commit decision = Commit::kNone;
    if (!arrived) {
      there.reset();
      return;
    }
    if (::recv(commit_there.get(), &decision, sizeof decision, 0) <= 0) decision = Commit::kNone;
    new_pid = arrival.pid();
    if (decision == Commit::kMoved && options.carry) options.carry(arrival);
    if (decision == Commit::kMoved) arrival.resume();
    else arrival.abandon();
    resumed = Clock::now();
    target_figures = arrival.figures();
  });

  Clock::time_point frozen{};
  auto source = [&]() -> Result<void> {
    auto departure = Departure::open(pod.pid(), options.control);
    if (!departure) return departure.error();
    auto& d = **departure;
    auto steps = [&]() -> Result<void> {
      if (auto r = d.survey(); !r) return r;
      if (auto r = d.precopy(*here, in_seconds(60)); !r) return r;
      frozen = Clock::now();
      if (auto r = d.freeze(in_seconds(10)); !r) return r;
      return d.hand_over(*here, "extra of the caller", in_seconds(60));
    };
    auto done = steps();
    Commit decision = done && !options.abort ? Commit::kMoved : Commit::kStays;
    if (decision == Commit::kStays) d.thaw();
    ::send(commit_here.get(), &decision, sizeof decision, MSG_NOSIGNAL);
    if (decision == Commit::kMoved) d.discard(nullptr);
    if (options.figures) options.figures->source = d.figures();
    return done;
  };
  auto done = source();
  here.reset();
  commit_here.reset();
  target.join();
  if (!done) return done;
  EXPECT_TRUE(arrived) << arrived.error().message();
  if (arrived) {
    EXPECT_EQ(*arrived, "extra of the caller");
  }
  if (options.figures) {
    options.figures->target = target_figures;
    options.figures->blackout_ms = std::chrono::duration<double, std::milli>(resumed - frozen).count();
  }
  if (options.abort) return {};
  pod.set_pid(new_pid);
  pod.set_waiter(waiter);
  return {};
}

Result<void> move(Pod& pod, const MoveOptions& options) {
  for (int tries = 0;; ++tries) {
    auto moved = move_once(pod, options);
    if (moved || tries == 10 || moved.error().code != std::errc::resource_unavailable_try_again) return moved;
  }
}

bool eventually(const std::function<bool()>& condition) {
  for (Deadline deadline = in_seconds(10); Clock::now() < deadline;) {
    if (condition()) return true;
    ::sched_yield();
  }
  return condition();
}

std::string victim_path() { return VICTIM_PATH; }

}  // namespace godwit::migrate::test

namespace {

// Everything that the tests start lives in this namespace and ends with its first process.
int in_own_namespace(const std::function<int()>& body) {
  if (::geteuid() != 0) return body();
  if (::unshare(CLONE_NEWPID | CLONE_NEWNS)) return body();
  pid_t child = ::fork();
  if (child != 0) {
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  ::mount("proc", "/proc", "proc", 0, nullptr);
  int status = body();
  std::fflush(nullptr);
  ::_exit(status);
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return in_own_namespace([] { return RUN_ALL_TESTS(); });
}
