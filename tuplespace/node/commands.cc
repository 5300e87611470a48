#include "tuplespace/node/commands.hh"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <sstream>

#include "tuplespace/command/facts.hh"
#include "tuplespace/fault.hh"
#include "tuplespace/node/client.hh"
#include "tuplespace/node/keeper.hh"
#include "tuplespace/node/node.hh"
#include "tuplespace/node/spawn.hh"
#include "tuplespace/posix/file.hh"
#include "tuplespace/shared/segment.hh"

namespace godwit {
namespace {

// ---- godwit node

constexpr std::string_view kNodeUsage =
    R"(usage: godwit node [--host-name H] [--listen A:P] [--join A:P] [--clients A:P]
                   [--segment-size SIZE] [--metrics A:P] [--foreground]
       godwit node --stop [--discard]

Runs the daemon of this host, in the background unless --foreground. Prints "ready H A:P" once it
serves. Other commands start it by themselves on a single host; start it by hand to join hosts.

   --host-name H   what this host is called in the community (default: the machine's name)
   --listen A:P    where the nodes of other hosts reach this one; P may be 0 (default: loopback only)
   --join A:P      enter the community of the node at A:P; copy its community.key to this host's
                   GODWIT_HOME first
   --clients A:P   where programs with a key of godwit keygen use this host's spaces from anywhere; P may
                   be 0; off ends it (default: nowhere)
   --segment-size SIZE
                   of the shared memory of this host's pods: bytes, or as in 512M, 4G; from 16M to 64G
                   (default 16G). It is an upper bound: pages of /dev/shm are taken when they are used.
                   One that pods use keeps the size that it was made with
   --metrics A:P   answers Prometheus at http://A:P/metrics, and anybody else who can reach that; off
                   ends it (default: nowhere)
   --foreground    stay in the foreground; SIGTERM leaves
   --stop          the node leaves; programs that run in pods go on, and a node started later takes
                   them up again. Tuples stay in the host's memory until it restarts, durable ones on disk
   --discard       of --stop: all spaces are dropped; durable ones are there again at the next start

The settings are remembered: a node started without them, also by another command, comes back as
it was.
)";

int stop_signal_fd = -1;  // written by the signal handler

void on_stop_signal(int) {
  int saved = errno;
  uint64_t one = 1;
  [[maybe_unused]] auto written = write(stop_signal_fd, &one, sizeof one);
  errno = saved;
}

void handle_signals(Node& node) {
  stop_signal_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  GODWIT_CHECK(node.loop().add_fd(stop_signal_fd, EPOLLIN, [&node](uint32_t) {
    uint64_t count = 0;
    [[maybe_unused]] auto got = read(stop_signal_fd, &count, sizeof count);
    std::printf("%s\n", node.farewell().c_str());
    std::fflush(stdout);
    node.leave();
  }));
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

// What the starter hears: the exit status, one line that goes with it, and the node's remarks, a line each.
using Report = std::function<void(int status, const std::string& lines)>;

void print_report(int status, const std::string& lines) {
  size_t end = std::min(lines.find('\n'), lines.size());
  if (status != kDone) fail("node", status, lines);
  else std::printf("%.*s\n", static_cast<int>(end), lines.c_str());
  std::istringstream remarks(status == kDone && end < lines.size() ? lines.substr(end + 1) : "");
  for (std::string remark; std::getline(remarks, remark);) fail("node", kDone, remark);
  std::fflush(stdout);
}

int serve(const Home& home, const NodeOptions& options, const Report& report) {
  umask(0077);
  prctl(PR_SET_NAME, "godwit");  // one that was started on first use is called "exe"
  auto node = Node::create(home, options);
  if (!node) return report(exit_status(node.error()), describe(node.error())), exit_status(node.error());
  handle_signals(**node);
  for (auto room : node_rooms()) room(**node);
  int status = kDone;
  (*node)->start([&](Result<void> started) {
    if (started) {
      std::string lines = "ready " + (*node)->host_name() + " " + (*node)->address();
      for (const std::string& remark : (*node)->remarks()) lines += "\n" + remark;
      return report(kDone, lines);
    }
    status = exit_status(started.error());
    report(status, describe(started.error()));
    (*node)->loop().stop();
  });
  if (status == kDone) (*node)->loop().run();
  return status;
}

int serve_in_foreground(const Home& home, const NodeOptions& options) {
  return serve(home, options, print_report);
}

// The report comes through a pipe as "STATUS LINES"; a daemon that dies before has sent nothing.
int relay_report(int from) {
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = read(from, buffer, sizeof buffer)) != 0;) {
    if (got > 0) text.append(buffer, static_cast<size_t>(got));
    else if (errno != EINTR) break;
  }
  size_t space = text.find(' ');
  if (space == std::string::npos) return fail("node", kBroken, "the node died while starting; see node.log in GODWIT_HOME");
  int status = std::atoi(text.c_str());
  print_report(status, text.substr(space + 1));
  return status;
}

int serve_in_background(const Home& home, const NodeOptions& options) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail("node", errno_error("making a pipe"));
  pid_t child = fork();
  if (child < 0) return fail("node", errno_error("starting the node"));
  if (child == 0) {
    if (fork() != 0) _exit(0);
    int log = open(home.file("node.log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    std::string path = home.path();  // its folder's descriptor goes with all others
    become_daemon(ends[1], log);
    auto own_home = Home::open_at(path);
    if (!own_home) _exit(kBroken);
    int status = serve(*own_home, options, [&](int status, const std::string& lines) {
      std::string text = std::to_string(status) + " " + lines;
      [[maybe_unused]] auto written = write_all(ends[1], text);
      close(ends[1]);
    });
    std::fflush(stdout);
    _exit(status);
  }
  close(ends[1]);
  waitpid(child, nullptr, 0);
  return relay_report(ends[0]);
}

bool wait_for_exit(int pidfd, int milliseconds) {
  pollfd watched{pidfd, POLLIN, 0};
  return poll(&watched, 1, milliseconds) == 1;
}

// Asked to leave by its socket, else by SIGTERM; done when its process is gone.
int stop_node(const Home& home, bool discard) {
  if (discard)  // what the last node left is a node's to drop
    if (auto started = ensure_node(home); !started) return fail("node", started.error());
  auto pid = home.running_node();
  if (!pid) return std::printf("no node is running\n"), kDone;
  UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, *pid, 0)));
  auto client = NodeClient::connect(home);
  std::string words = "left";
  if (client) {
    Answer answer = client->call("node.stop", pack_map("discard", discard), std::chrono::seconds(5));
    if (answer) decode(answer->get(), words);
    else if (process.valid()) syscall(SYS_pidfd_send_signal, process.get(), SIGTERM, nullptr, 0);
  }
  if (process.valid() && !wait_for_exit(process.get(), 15'000))
    return fail("node", kTimedOut, "the node, pid " + std::to_string(*pid) + ", does not leave; see node.log or kill it");
  std::printf("%s\n", words.c_str());
  return kDone;
}

bool is_literal(const std::string& address) {
  in6_addr ignored;
  return inet_pton(AF_INET, address.c_str(), &ignored) == 1 || inet_pton(AF_INET6, address.c_str(), &ignored) == 1;
}

bool is_listenable(const std::string& text) {
  auto parsed = parse_address(text);
  return parsed && is_literal(parsed->address);
}

// Also by a host's name; but what is all digits and dots was meant to be an address.
bool is_joinable(const std::string& text) {
  auto parsed = parse_address(text);
  if (!parsed || parsed->port == 0) return false;
  bool named = is_valid_name(parsed->address) && parsed->address.find_first_not_of("0123456789.") != std::string::npos;
  return named || is_literal(parsed->address);
}

// Whole chunks.
std::optional<uint64_t> parse_segment_size(std::string_view text) {
  uint64_t size = parse_size(text, shared::kSegmentReach).value_or(0) & ~(shared::kChunk - 1);
  return size < shared::kSmallestSegment ? std::nullopt : std::optional(size);
}

int run_node(const Args& args) {
  static constexpr std::array<OptionSpec, 9> kSpecs = {{{"--host-name", Takes::kValue}, {"--listen", Takes::kValue},
                                                        {"--join", Takes::kValue}, {"--clients", Takes::kValue},
                                                        {"--segment-size", Takes::kValue}, {"--metrics", Takes::kValue},
                                                        {"--foreground"}, {"--stop"}, {"--discard"}}};
  auto options = Options::parse(args, kSpecs);
  if (!options) return usage_error("node", options.error().what);
  if (!options->words().empty()) return usage_error("node", "unexpected word '" + options->words()[0] + "'");
  if (auto name = options->value("--host-name"); name && !is_valid_name(*name))
    return usage_error("node", "--host-name takes letters, digits, '.', '_' and '-', not '" + *name + "'");
  if (auto listen = options->value("--listen"); listen && !is_listenable(*listen))
    return usage_error("node", "--listen takes ADDRESS:PORT with an address of this host, not '" + *listen + "'");
  if (auto metrics = options->value("--metrics"); metrics && *metrics != "off" && !is_listenable(*metrics))
    return usage_error("node", "--metrics takes ADDRESS:PORT with an address of this host, or off, not '" + *metrics + "'");
  if (auto join = options->value("--join"); join && !is_joinable(*join))
    return usage_error("node", "--join takes the ADDRESS:PORT that another host's node has printed, not '" + *join + "'");
  if (auto clients = options->value("--clients"); clients && *clients != "off" && !is_listenable(*clients))
    return usage_error("node", "--clients takes ADDRESS:PORT with an address of this host, or off, not '" + *clients + "'");
  auto size = options->value("--segment-size");
  uint64_t segment_size = size ? parse_segment_size(*size).value_or(0) : 0;
  if (size && !segment_size)
    return usage_error("node", "--segment-size takes 16M to 64G, or as many bytes, not '" + *size + "'");
  auto home = Home::open();
  if (!home) return fail("node", home.error());
  if (options->has("--discard") && !options->has("--stop")) return usage_error("node", "--discard goes with --stop");
  if (options->has("--stop")) return stop_node(*home, options->has("--discard"));
  NodeOptions wanted{options->value("--host-name").value_or(""), options->value("--listen").value_or(""),
                     options->value("--join").value_or(""), segment_size, options->value("--metrics").value_or(""),
                     options->value("--clients").value_or("")};
  return options->has("--foreground") ? serve_in_foreground(*home, wanted) : serve_in_background(*home, wanted);
}

// ---- godwit hosts

constexpr std::string_view kHostsUsage =
    R"(usage: godwit hosts [--json]

Lists the hosts of the community: name, the address of its node, whether the node answers now, how many
pods it runs, where it serves remote clients.
)";

int run_hosts(const Args& args) {
  static constexpr std::array<OptionSpec, 1> kSpecs = {{{"--json"}}};
  auto options = Options::parse(args, kSpecs);
  if (!options) return usage_error("hosts", options.error().what);
  if (!options->words().empty()) return usage_error("hosts", "unexpected word '" + options->words()[0] + "'");
  return show_facts("hosts", "hosts", pack_map(), options->has("--json"), {"host", "address", "present", "pods", "clients", "this"});
}

// ---- hidden

int run_keeper_command(const Args&) {
  signal(SIGHUP, SIG_IGN);
  signal(SIGINT, SIG_IGN);
  auto home = Home::open();
  if (!home) return fail("keeper", home.error());
  auto done = run_keeper(*home);
  return done ? kDone : fail("keeper", done.error());
}

constexpr std::string_view kFaultsUsage =
    R"(usage: godwit faults [--json]

Lists the points at which GODWIT_FAULT=POINT[:N][:kill|stop|error] can strike, for tests: at the Nth
passing (default the first) the process is killed, or stopped, or the step fails.
)";

int run_faults(const Args& args) {
  static constexpr std::array<OptionSpec, 1> kSpecs = {{{"--json"}}};
  auto options = Options::parse(args, kSpecs);
  if (!options) return usage_error("faults", options.error().what);
  if (!options->words().empty()) return usage_error("faults", "unexpected word '" + options->words()[0] + "'");
  std::vector<std::string_view> names = fault_points();
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  const char* line = options->has("--json") ? "{\"point\":\"%.*s\"}\n" : "%.*s\n";
  for (auto name : names) std::printf(line, static_cast<int>(name.size()), name.data());
  return kDone;
}

constexpr Command kCommands[] = {
    {"node", "run or stop this host's daemon; join hosts to a community", kNodeUsage, run_node},
    {"hosts", "list the hosts of the community", kHostsUsage, run_hosts},
    {"keeper", "", "usage: godwit keeper\n\nHolds descriptors for the node, which starts it.\n", run_keeper_command},
    {"faults", "", kFaultsUsage, run_faults},
};

}  // namespace

std::span<const Command> node_commands() { return kCommands; }

}  // namespace godwit
