#include <signal.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>

#include "tuplespace/command/facts.hh"
#include "tuplespace/node/client.hh"
#include "tuplespace/node/commands.hh"

namespace godwit {
namespace {

using std::chrono::seconds;

// ---- godwit ps

constexpr std::string_view kPsUsage =
    R"(usage: godwit ps [--json] [--connections] [--pending]

Lists the pods of all hosts. With --json one object a line: pod, host, pid, state (running, moving,
frozen; starting, or unreachable when its host does not answer), epoch, movable, reason, command,
connections, bytes_in, bytes_out, virtual_host. REASON says why a pod cannot be moved.

   --connections   lists the pods' ends of connections instead: connection, pod, host, end (client or
                   server), state (connecting, open, closing), from, to
   --pending       the same, with the bytes of each direction that its reader has not taken yet
)";

int run_ps(const Args& args) {
  static constexpr std::array<OptionSpec, 3> kSpecs = {{{"--json"}, {"--connections"}, {"--pending"}}};
  auto options = Options::parse(args, kSpecs);
  if (!options) return usage_error("ps", options.error().what);
  if (!options->words().empty()) return usage_error("ps", "unexpected word '" + options->words()[0] + "'");
  bool json = options->has("--json"), pending = options->has("--pending");
  if (pending || options->has("--connections")) {
    std::vector<std::string> columns{"connection", "pod", "host", "end", "state", "from", "to"};
    if (pending) columns.insert(columns.end(), {"pending_c>s", "pending_s>c"});
    return show_facts("ps", "connections", pack_map("pending", pending), json, columns);
  }
  return show_facts("ps", "pods", pack_map(), json,
                    {"pod", "host", "pid", "state", "epoch", "movable", "connections", "reason", "command"});
}

// ---- godwit stop, kill

constexpr std::string_view kStopUsage =
    R"(usage: godwit stop POD [--timeout S]

Sends SIGTERM to the pod's program and waits until it has ended, at most S seconds (default 10). Exit
status 124 if it still runs then; godwit kill ends it for sure.
)";
constexpr std::string_view kKillUsage =
    R"(usage: godwit kill POD [--timeout S]

Ends all processes of the pod with SIGKILL, and waits until they are gone, at most S seconds
(default 10).
)";

// The node answers for a host that is silent; if it is silent itself, that is said a moment later.
Result<void> signal_and_wait(const std::string& pod, int signo, std::chrono::nanoseconds patience) {
  using std::chrono::nanoseconds, std::chrono::milliseconds;
  constexpr nanoseconds kShortest = seconds(1), kLongest = seconds(30), kGrace = seconds(2);
  auto home = Home::open();
  if (!home) return home.error();
  auto client = NodeClient::connect(*home);
  if (!client) return client.error();
  auto until = std::chrono::steady_clock::now() + patience;
  auto delivery = std::chrono::ceil<milliseconds>(std::clamp(patience, kShortest, kLongest));
  Answer sent = client->call("pods.control", pack_map("pod", pod, "verb", "signal", "signo", signo, "milliseconds",
                                                      delivery.count()), delivery + kGrace);
  if (!sent) return sent.error();
  Answer ended = client->call("pods.wait", pack_map("pod", pod), until - std::chrono::steady_clock::now());
  if (ended) return {};
  if (ended.error().code != std::errc::timed_out) return ended.error();
  return make_error(std::errc::timed_out, "pod " + pod + " still runs; " +
                                              (signo == SIGKILL ? "see godwit ps" : "end it with godwit kill " + pod));
}

int end_pod(const char* command, const Args& args, int signo) {
  static constexpr std::array<OptionSpec, 1> kSpecs = {{{"--timeout", Takes::kValue}}};
  auto options = Options::parse(args, kSpecs);
  if (!options) return usage_error(command, options.error().what);
  if (options->words().size() != 1) return usage_error(command, "one POD is needed");
  auto patience = parse_seconds(options->value("--timeout").value_or("10"));
  if (!patience) return usage_error(command, "--timeout takes seconds");
  auto ended = signal_and_wait(options->words()[0], signo, *patience);
  return ended ? kDone : fail(command, ended.error());
}

int run_stop(const Args& args) { return end_pod("stop", args, SIGTERM); }
int run_kill(const Args& args) { return end_pod("kill", args, SIGKILL); }

// ---- godwit logs

constexpr std::string_view kLogsUsage =
    R"(usage: godwit logs POD [-f]

Prints what a pod has written to stdout and stderr since it began, on whichever hosts it has been. The
log of a pod that ran with --detach outlives it.

   -f   goes on with what it writes, until it ends
)";

int run_logs(const Args& args) {
  static constexpr std::array<OptionSpec, 2> kSpecs = {{{"-f"}, {"--follow"}}};
  auto options = Options::parse(args, kSpecs);
  if (!options) return usage_error("logs", options.error().what);
  if (options->words().size() != 1) return usage_error("logs", "one POD is needed");
  bool follow = options->has("-f") || options->has("--follow");
  auto home = Home::open();
  if (!home) return fail("logs", home.error());
  auto client = NodeClient::connect(*home);
  if (!client) return fail("logs", client.error());
  uint64_t offset = 0;
  for (;;) {
    Answer answer = client->call("pods.control",
                                 pack_map("pod", options->words()[0], "verb", "log", "offset", offset, "wait", follow),
                                 follow ? seconds(20) : seconds(30));
    if (!answer && follow && answer.error().code == std::errc::timed_out) continue;  // nothing new yet
    if (!answer) return fail("logs", answer.error());
    Bin data;
    uint64_t next = 0;
    bool ended = false;
    if (auto bad = Fields(answer->get()).need("data", data, "next", next, "ended", ended)) return fail("logs", *bad);
    std::fwrite(data.data.data(), 1, data.data.size(), stdout);
    std::fflush(stdout);
    if (std::ferror(stdout) || ended || (!follow && data.data.empty())) return kDone;
    offset = next;
  }
}

constexpr Command kCommands[] = {
    {"ps", "list the pods of all hosts", kPsUsage, run_ps},
    {"stop", "end a pod's program with SIGTERM", kStopUsage, run_stop},
    {"kill", "end a pod with SIGKILL", kKillUsage, run_kill},
    {"logs", "print what a pod has written", kLogsUsage, run_logs},
};

}  // namespace

std::span<const Command> pod_commands() { return kCommands; }

}  // namespace godwit
