// Real godwit processes for tests: commands run to their end, homes that clean up after themselves.
#pragma once
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "tests/support/temp_folder.hh"
#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/streams/host_segment.hh"

namespace godwit::test {

using Environment = std::map<std::string, std::string>;

struct Finished {
  int status = -1;  // exit status, or 128 + signal
  std::string out, err;
};

inline std::string take_all(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = ::read(fd, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(got));
  return text;
}

inline pid_t start(const std::vector<std::string>& words, const Environment& environment, int out, int err) {
  std::vector<char*> argv;
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_t child = fork();
  if (child != 0) return child;
  for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
  dup2(out, 1);
  dup2(err, 2);
  close_range(3, ~0U, 0);  // a pod that inherits what leads out of it cannot be moved
  execv(words[0].c_str(), argv.data());
  _exit(127);
}

inline int wait_for(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// Errors go through a file, so that a full pipe cannot stop the child.
inline Finished run(const std::vector<std::string>& words, const Environment& environment = {}) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {};
  UniqueFd from(ends[0]), to(ends[1]);
  char name[] = "/tmp/godwit-test-XXXXXX";
  UniqueFd err(mkstemp(name));
  unlink(name);
  pid_t child = start(words, environment, to.get(), err.get());
  to.reset();
  Finished out;
  out.out = take_all(from.get());
  out.status = wait_for(child);
  lseek(err.get(), 0, SEEK_SET);
  out.err = take_all(err.get());
  return out;
}

/// One host: a home and the commands that use it. Its node is killed at the end.
class TestHost {
 public:
  explicit TestHost(std::string name, std::string home = {}) : name_(std::move(name)) {
    home_ = home.empty() ? folder_.path() + "/" + name_ : std::move(home);
  }
  ~TestHost() {
    kill_node();
    // A node that was killed leaves its segment for the next one; here there is none.
    if (auto home = Home::open_at(home_)) unlink(("/dev/shm/" + segment_name(*home)).c_str());
  }

  Finished godwit(std::vector<std::string> words, Environment more = {}) const {
    words.insert(words.begin(), GODWIT_BINARY);
    more["GODWIT_HOME"] = home_;
    return run(words, more);
  }
  Finished start_node(std::vector<std::string> options = {}, Environment more = {}) const {
    options.insert(options.begin(), {"node", "--host-name", name_});
    return godwit(std::move(options), std::move(more));
  }
  /// "ready H A:P" -> A:P
  static std::string address(const Finished& ready) {
    auto space = ready.out.rfind(' ');
    return space == std::string::npos ? "" : ready.out.substr(space + 1, ready.out.find('\n') - space - 1);
  }
  void take_key_of(const TestHost& other) const {
    std::filesystem::create_directories(home_);
    std::filesystem::permissions(home_, std::filesystem::perms::owner_all);
    std::filesystem::copy_file(other.home_ + "/community.key", home_ + "/community.key",
                               std::filesystem::copy_options::overwrite_existing);
  }
  int node_pid() const {
    std::ifstream file(home_ + "/node.pid");
    int pid = 0;
    file >> pid;
    return pid;
  }
  /// Waits until the process is gone.
  void kill_node(int signo = SIGKILL) const {
    int pid = node_pid();
    if (pid <= 0) return;
    UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (!process.valid() || !is_godwit(pid)) return;
    kill(pid, signo);
    pollfd watched{process.get(), POLLIN, 0};
    poll(&watched, 1, 10'000);
    if (signo == SIGKILL) unlink((home_ + "/node.pid").c_str());
  }
  const std::string& home() const { return home_; }
  const std::string& name() const { return name_; }

 private:
  static bool is_godwit(int pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
    std::string name;
    file >> name;
    return name == "godwit";
  }
  TempFolder folder_;
  std::string name_;
  std::string home_;
};

}  // namespace godwit::test
