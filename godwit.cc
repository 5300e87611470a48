// The one executable: lists the rooms' commands and their services of the node, and hands over.
#include <array>

#include "bridge/service.hh"
#include "migrate/commands.hh"
#include "tuplespace/clients/commands.hh"
#include "tuplespace/clients/service.hh"
#include "tuplespace/command/command.hh"
#include "tuplespace/durable/service.hh"
#include "tuplespace/monitor/metrics.hh"
#include "tuplespace/monitor/top.hh"
#include "tuplespace/node/commands.hh"
#include "tuplespace/node/node.hh"
#include "tuplespace/node/spawn.hh"
#include "tuplespace/space/commands.hh"
#include "tuplespace/space/worker_command.hh"
#include "tuplespace/streams/service.hh"
#include "tuplespace/streams/spaces.hh"
#include "wrapper/commands.hh"

int main(int argc, char** argv) {
  using namespace godwit;
  this_is_godwit();
  static constexpr std::array<RegisterRoom, 8> kServices = {register_streams, register_durable, register_spaces, register_clients, register_wrapper,
                                                            register_bridge, register_migrate, register_metrics};
  const std::span<const Command> rooms[] = {wrapper_commands(), pod_commands(), space_commands(), worker_commands(), client_commands(),
                                            migrate_commands(), monitor_commands(), node_commands()};
  set_node_rooms(kServices);
  return command_main(argc, argv, rooms);
}
