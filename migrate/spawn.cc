// fork, unshare, fork, clone3(set_tid). Between fork and the end only async-signal-safe calls are made: the
// caller may have threads.
#include "migrate/spawn.hh"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "migrate/proc.hh"

namespace godwit::migrate {

namespace {

constexpr int kNewTime = 0x80;  // CLONE_NEWTIME

bool write_file(const char* path, const char* text) {
  int fd = ::open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  bool written = ::write(fd, text, ::strlen(text)) >= 0;
  ::close(fd);
  return written;
}

struct Texts {  // made before the fork
  char offsets[160], uids[40], gids[40];
};

Texts prepare_texts(const SpawnRequest& request) {
  Texts t{};
  auto split = [](int64_t ns) {
    int64_t seconds = ns / 1'000'000'000, rest = ns % 1'000'000'000;
    if (rest < 0) rest += 1'000'000'000, --seconds;
    return std::pair<long long, long long>(seconds, rest);
  };
  auto [ms, mn] = split(request.monotonic_shift_ns);
  auto [bs, bn] = split(request.boottime_shift_ns);
  std::snprintf(t.offsets, sizeof t.offsets, "monotonic %lld %lld\nboottime %lld %lld\n", ms, mn, bs, bn);
  std::snprintf(t.uids, sizeof t.uids, "%u %u 1", ::geteuid(), ::geteuid());
  std::snprintf(t.gids, sizeof t.gids, "%u %u 1", ::getegid(), ::getegid());
  return t;
}

bool enter_namespaces(const Texts& texts) {
  bool user = ::geteuid() != 0;
  if (::unshare((user ? CLONE_NEWUSER : 0) | CLONE_NEWPID | kNewTime)) return false;
  if (user && !(write_file("/proc/self/setgroups", "deny") && write_file("/proc/self/uid_map", texts.uids) &&
                write_file("/proc/self/gid_map", texts.gids)))
    return false;
  return write_file("/proc/self/timens_offsets", texts.offsets);
}

[[noreturn]] void wait_for(pid_t child) {
  for (;;) {
    int status = 0;
    pid_t who = ::waitpid(-1, &status, 0);  // no WUNTRACED: stops of the program are the engine's
    if (who == child) ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    if (who < 0 && errno != EINTR) ::_exit(127);
  }
}

[[noreturn]] void be_init(uint32_t wanted, int report) {
  ::setsid();
  pid_t tid = static_cast<pid_t>(wanted);
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<uint64_t>(&tid);
  arguments.set_tid_size = 1;
  long made = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (made == 0)
    for (;;) ::pause();
  char outcome = made < 0 ? static_cast<char>(errno) : 0;
  (void)!::write(report, &outcome, 1);
  if (made < 0) ::_exit(126);
  ::syscall(SYS_close_range, 3, ~0u, 0);
  wait_for(static_cast<pid_t>(made));
}

[[noreturn]] void be_waiter(const SpawnRequest& request, const Texts& texts, int report) {
  if (!enter_namespaces(texts)) {
    char outcome = static_cast<char>(errno);
    (void)!::write(report, &outcome, 1);
    ::_exit(126);
  }
  pid_t init = ::fork();
  if (init == 0) be_init(request.pid, report);
  ::syscall(SYS_close_range, 3, ~0u, 0);
  wait_for(init);
}

pid_t only_child(pid_t pid) {
  std::string id = std::to_string(pid);
  return static_cast<pid_t>(std::strtol(read_text("/proc/" + id + "/task/" + id + "/children").c_str(), nullptr, 10));
}

}  // namespace

Result<Spawned> spawn_in_namespaces(const SpawnRequest& request, pid_t* waiter) {
  int control[2], report[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control)) return errno_error("socketpair");
  UniqueFd ours(control[0]), theirs(control[1]);
  if (::pipe2(report, O_CLOEXEC)) return errno_error("pipe");
  UniqueFd reading(report[0]), writing(report[1]);
  Texts texts = prepare_texts(request);
  pid_t child = ::fork();
  if (child < 0) return errno_error("fork");
  if (child == 0) be_waiter(request, texts, writing.get());
  writing.reset();
  char outcome = 0;
  ssize_t n;
  while ((n = ::read(reading.get(), &outcome, 1)) < 0 && errno == EINTR) {
  }
  pid_t program = n == 1 && outcome == 0 ? only_child(only_child(child)) : 0;
  if (program <= 0) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    return Error{std::error_code(outcome, std::generic_category()), "make the namespaces of a pod"};
  }
  if (waiter) *waiter = child;
  return Spawned{program, std::move(ours), theirs.get()};
}

}  // namespace godwit::migrate
