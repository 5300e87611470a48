// godwit move.
#include "migrate/commands.hh"

#include <cstdio>

#include "tuplespace/command/facts.hh"
#include "tuplespace/node/client.hh"

namespace godwit {
namespace {

constexpr auto kMovePatience = std::chrono::minutes(10);

int move_command(const Args& args) {
  static constexpr OptionSpec kOptions[] = {{"--json"}, {"--dry-run"}};
  auto options = Options::parse(args, kOptions);
  if (!options) return usage_error("move", options.error().what);
  if (options->words().size() != 2) return usage_error("move", "give a pod and a host");
  auto home = Home::open();
  if (!home) return fail("move", home.error());
  auto node = NodeClient::connect(*home);
  if (!node) return fail("move", node.error());
  bool dry_run = options->has("--dry-run");
  auto answer = node->call("pod.move",
                           pack_map("pod", options->words()[0], "host", options->words()[1], "dry_run", dry_run),
                           kMovePatience);
  if (!answer) return fail("move", answer.error());
  Fields facts(answer->get());
  std::string pod, from, to;
  uint64_t epoch, bytes, unread, pending;
  double blackout, total;
  if (auto bad = facts.need("pod", pod, "from", from, "to", to, "epoch", epoch, "bytes", bytes, "unread", unread,
                            "pending", pending,
                            "blackout_ms", blackout, "total_ms", total))
    return fail("move", *bad);
  if (options->has("--json")) {
    printf("{\"pod\":\"%s\",\"from\":\"%s\",\"to\":\"%s\",\"epoch\":%lu,\"blackout_ms\":%.3f,\"total_ms\":%.3f,"
           "\"bytes\":%lu,\"pending\":%lu,\"pending_bytes\":%lu}\n",
           pod.c_str(), from.c_str(), to.c_str(), epoch, blackout, total, bytes, pending, unread);
  } else if (dry_run) {
    printf("%s can move from %s to %s\n", pod.c_str(), from.c_str(), to.c_str());
  } else {
    printf("moved %s %s %s epoch %lu blackout_ms %.3f total_ms %.3f bytes %lu\n", pod.c_str(), from.c_str(), to.c_str(),
           epoch, blackout, total, bytes);
  }
  return kDone;
}

constexpr Command kCommands[] = {
    {"move", "move a running pod to another host",
     "usage: godwit move POD HOST [--json] [--dry-run]\n\n"
     "Moves a running pod, with its connections, to HOST. Its peers see a pause of some milliseconds.\n"
     "Prints: moved POD FROM TO epoch N blackout_ms X total_ms Y bytes Z\n\n"
     "  --dry-run   only says whether the pod could be moved, and why not\n"
     "  --json      prints the facts as one object\n",
     move_command},
};

}  // namespace

std::span<const Command> migrate_commands() { return kCommands; }

}  // namespace godwit
