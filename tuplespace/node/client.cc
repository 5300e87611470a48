#include "tuplespace/node/client.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tuplespace/command/command.hh"
#include "tuplespace/node/spawn.hh"
#include "tuplespace/posix/file.hh"

namespace godwit {
namespace {

constexpr auto kFirstRetry = std::chrono::milliseconds(500);
constexpr auto kLastRetry = std::chrono::seconds(2);

// What a short-lived child printed, and its exit status. Its other descriptors are /dev/null.
struct Finished {
  int status = 0;
  std::string output;
};

// Our environment, with that home. Made before the fork: in the child nothing may allocate.
std::vector<std::string> environment_with(const Home& home) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry; ++entry)
    if (!std::string_view(*entry).starts_with("GODWIT_HOME=")) all.push_back(*entry);
  all.push_back("GODWIT_HOME=" + home.path());
  return all;
}

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const auto& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

Result<Finished> run_and_read(const std::vector<std::string>& words, const std::vector<std::string>& environment) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return errno_error("making a pipe");
  UniqueFd from(ends[0]), to(ends[1]);
  auto argv = pointers_to(words), envp = pointers_to(environment);
  const char* executable = godwit_executable();
  pid_t child = fork();
  if (child < 0) return errno_error("starting the node");
  if (child == 0) {
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(to.get(), 1);
    dup2(to.get(), 2);
    close_range(3, ~0U, 0);
    execve(executable, argv.data(), envp.data());
    _exit(127);
  }
  to.reset();
  Finished out;
  char buffer[4096];
  for (ssize_t got; (got = read(from.get(), buffer, sizeof buffer)) != 0;) {
    if (got > 0) out.output.append(buffer, static_cast<size_t>(got));
    else if (errno != EINTR) break;
  }
  while (waitpid(child, &out.status, 0) < 0 && errno == EINTR) {}
  return out;
}

std::string last_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

}  // namespace

// Two that start it at once: the second waits for the first and finds the node there.
Result<void> ensure_node(const Home& home) {
  if (home.running_node()) return {};
  auto lock = home.wait_lock("start.lock");
  if (!lock) return lock.error();
  if (home.running_node()) return {};
  auto started = run_and_read({"godwit", "node"}, environment_with(home));
  if (!started) return started.error();
  if (WIFEXITED(started->status) && WEXITSTATUS(started->status) == 0) return {};
  if (home.running_node()) return {};  // somebody started it by hand just then
  std::string why = last_line(started->output);
  return make_error(std::errc::state_not_recoverable,
                    "the node did not start; " + (why.empty() ? "see " + home.file("node.log") : why));
}

Result<NodeClient> NodeClient::connect(const Home& home) {
  if (auto running = ensure_node(home); !running) return running.error();
  auto key = home.community_key();
  if (!key) return key.error();
  return NodeClient(std::make_unique<Transport>(std::move(*key)), "ipc://" + home.socket_path("node.sock"));
}

std::optional<Answer> NodeClient::wait_for(Socket& socket, uint64_t sequence, Loop::Clock::time_point until,
                                           bool& heard) {
  while (auto frames = socket.receive(until)) {
    auto response = parse_response(*frames);
    if (!response || response->id.session != session_ || response->id.sequence != sequence) continue;
    heard = true;
    if (!response->working) return std::move(response->answer);
  }
  return std::nullopt;
}

// As Peers does it: silence means another DEALER, "working" means patience.
Answer NodeClient::call(std::string_view method, const Packed& params, Loop::Clock::duration patience) {
  auto deadline = Loop::Clock::now() + patience;
  uint64_t sequence = ++sequence_;
  Packed request = pack_request({session_, sequence}, sequence, method, params);
  Loop::Clock::duration pause = kFirstRetry;
  std::optional<Socket> socket;
  bool heard = false;
  while (Loop::Clock::now() < deadline) {
    if (!heard) {
      auto fresh = transport_->dealer(Transport::Security::kNone);
      if (!fresh) return fresh.error();
      socket.emplace(std::move(*fresh));
      if (auto connected = socket->connect(endpoint_); !connected) return connected.error();
    }
    heard = false;
    socket->send({std::string(kProtocol), request});
    auto answer = wait_for(*socket, sequence, std::min(deadline, Loop::Clock::now() + pause), heard);
    if (answer) return std::move(*answer);
    pause = std::min<Loop::Clock::duration>(pause * 2, kLastRetry);
  }
  return make_error(std::errc::timed_out, "the node does not answer in time; see node.log in GODWIT_HOME");
}

}  // namespace godwit
