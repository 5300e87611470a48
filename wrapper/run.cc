// godwit run: a program as a pod.
#include <arpa/inet.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "tuplespace/fault.hh"
#include "tuplespace/node/client.hh"
#include "wrapper/commands.hh"
#include "wrapper/ferry.hh"
#include "wrapper/program_kind.hh"
#include "wrapper/relay.hh"
#include "wrapper/supervisor.hh"

namespace godwit {
namespace {

using namespace wrapper;
using std::chrono::seconds;

constexpr auto kPatience = seconds(30);

constexpr std::string_view kRunUsage =
    R"(usage: godwit run [--name N] [--host V] [--publish [A:]P:P2]... [--detach] -- PROGRAM ARGS...

Runs a program as a pod: its TCP connections are streams of the space, and it can be moved to another
host while it runs. In the foreground stdin, stdout, stderr and signals are passed on, and the exit
status is the program's (128 + n if signal n ended it), on whichever host it ends.

   --name N             the pod's name; else one is made from the program's
   --host V             its virtual host's name; else the pod's name
   --publish [A:]P:P2   the program's port P2 is reached at this host's real port P, also after moves
   --detach             goes on in the background; prints the pod's name
)";

struct Published {
  std::string address = "0.0.0.0";
  uint16_t port = 0, pod_port = 0;
};

bool is_numeric(const std::string& address) {
  in6_addr any;
  return ::inet_pton(address.find(':') == std::string::npos ? AF_INET : AF_INET6, address.c_str(), &any) == 1;
}

std::optional<Published> parse_publish(const std::string& text) {
  size_t last = text.rfind(':');
  if (last == std::string::npos || last == 0) return std::nullopt;
  Published result;
  auto inside = parse_number(text.substr(last + 1), 65535);
  std::string outside = text.substr(0, last);
  size_t colon = outside.rfind(':');
  auto port = parse_number(colon == std::string::npos ? outside : outside.substr(colon + 1), 65535);
  if (!inside || *inside == 0 || !port) return std::nullopt;
  if (colon != std::string::npos) result.address = outside.substr(0, colon);
  if (result.address.size() > 2 && result.address.front() == '[' && result.address.back() == ']')
    result.address = result.address.substr(1, result.address.size() - 2);
  if (!is_numeric(result.address)) return std::nullopt;
  result.port = static_cast<uint16_t>(*port);
  result.pod_port = static_cast<uint16_t>(*inside);
  return result;
}

// What the system below refused says what, but not what to do.
std::string with_remedy(const std::string& text) {
  bool has_one = text.find("; ") != std::string::npos;
  return has_one ? text : text + "; see that this host has memory, descriptors and disk space left";
}

class Run {
 public:
  Run(const Options& options, const Home& home, NodeClient client)
      : options_(options), home_(home), client_(std::move(client)) {}
  int run(uint64_t signal_mask);

 private:
  Result<void> admit();
  Result<void> publish();
  void give_up();

  const Options& options_;
  const Home& home_;
  NodeClient client_;
  PodSpec spec_;
  PodPlace place_;
  Starter starter_;  // the node gives the pod up when it is gone before pods.started
  std::string directory_;
};

Result<void> Run::admit() {
  spec_.command = options_.words();
  if (Unmovable kind = program_kind(spec_.command[0]); kind != Unmovable::kNone) spec_.reason = unmovable_text(kind);
  std::string program = spec_.command[0];
  std::string hint = program.substr(program.rfind('/') + 1);
  auto starter = board_as_starter(home_);
  if (!starter) return starter.error();
  starter_ = std::move(*starter);
  Answer answer = client_.call("pods.admit",
                               pack_map("name", options_.value("--name").value_or(""), "hint", hint, "virtual_host",
                                        options_.value("--host").value_or(""), "starter", starter_.number), kPatience);
  if (!answer) return answer.error();
  Fields fields(answer->get());
  if (auto bad = fields.need("pod", place_.pod, "member", place_.member, "segment", place_.segment, "name", spec_.name,
                             "virtual_host", spec_.host))
    return *bad;
  GODWIT_FAULT_POINT("run.admitted");
  auto pods = home_.folder("pods");
  if (!pods) return pods.error();
  auto directory = claim_pod_directory(*pods, spec_.name);
  if (!directory) return directory.error();
  directory_ = *directory;
  return {};
}

Result<void> Run::publish() {
  for (const std::string& text : options_.all("--publish")) {
    Published wanted = *parse_publish(text);
    spec_.publish.push_back(text);
    Answer answer = client_.call("bridge.publish", pack_map("address", wanted.address, "port", wanted.port, "pod", place_.pod,
                                                            "pod_port", wanted.pod_port), kPatience);
    if (!answer) return answer.error();
  }
  return {};
}

void Run::give_up() {
  (void)client_.call("pods.failed", pack_map("pod", place_.pod), kPatience);
  if (!directory_.empty()) remove_pod_directory(directory_);
}

int Run::run(uint64_t signal_mask) {
  bool detach = options_.has("--detach");
  if (auto admitted = admit(); !admitted) {
    if (place_.pod) give_up();
    return fail("run", admitted.error());
  }
  if (auto published = publish(); !published) {
    give_up();
    return fail("run", published.error());
  }
  GODWIT_FAULT_POINT("run.prepared");
  auto started = start_supervisor(spec_, directory_, place_, !detach, Arrival{}, signal_mask, starter_.place.get());
  if (!started || started->status) {
    give_up();
    if (!started) return fail("run", kBroken, with_remedy(describe(started.error())));
    return fail("run", started->status, with_remedy(started->problem));
  }
  GODWIT_FAULT_POINT("run.started");
  Answer told = client_.call("pods.started", pack_map("pod", place_.pod, "name", spec_.name), kPatience);
  if (!told) fail("run", 0, "the node does not look after the pod: " + describe(told.error()));
  starter_.place.reset();
  if (detach) {
    std::printf("%s\n", spec_.name.c_str());
    return kDone;
  }
  ::signal(SIGPIPE, SIG_IGN);
  int status = relay(std::move(started->channel), [this] { return ride(home_, place_.pod); });
  if (status == kBroken)
    return fail("run", kBroken, "the pod was killed, and its supervisor with it; see godwit logs " + spec_.name);
  return status;
}

int run_run(const Args& args) {
  static constexpr std::array<OptionSpec, 4> kSpecs = {{{"--name", Takes::kValue},
                                                        {"--host", Takes::kValue},
                                                        {"--publish", Takes::kValue},
                                                        {"--detach"}}};
  auto options = Options::parse(args, kSpecs, true);
  if (!options) return usage_error("run", options.error().what);
  if (options->words().empty()) return usage_error("run", "no program given");
  for (const char* option : {"--name", "--host"})
    if (auto name = options->value(option); name && !valid_pod_name(*name))
      return usage_error("run", std::string(option) + " takes letters, digits, '.', '_' and '-', at most 63, beginning with "
                                                      "a letter or digit");
  for (const std::string& text : options->all("--publish"))
    if (!parse_publish(text)) return usage_error("run", "--publish takes [ADDRESS:]PORT:PORT, the address as a number");
  // From here on a signal is the program's, which gets it as soon as it runs.
  uint64_t mask = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, nullptr, &mask, 8);
  sigset_t relayed = relayed_signals();
  ::sigprocmask(SIG_BLOCK, &relayed, nullptr);
  auto home = Home::open();
  if (!home) return fail("run", home.error());
  auto client = NodeClient::connect(*home);
  if (!client) return fail("run", kBroken, describe(client.error()));
  return Run(*options, *home, std::move(*client)).run(mask);
}

int run_supervise(const Args& args) { return supervise_command(args); }

constexpr Command kCommands[] = {
    {"run", "run a program as a pod", kRunUsage, run_run, true},
    {"supervise", "", "usage: godwit supervise (started by godwit run and by the node)\n", run_supervise, true},
};

}  // namespace

std::span<const Command> wrapper_commands() { return kCommands; }

}  // namespace godwit
