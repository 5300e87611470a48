// The one executable: lists the rooms' commands and their services of the node, and hands over.
#include <array>

#include "tuplespace/command/command.hh"
#include "tuplespace/node/commands.hh"
#include "tuplespace/node/node.hh"
#include "tuplespace/streams/service.hh"
#include "tuplespace/streams/space_commands.hh"
#include "tuplespace/streams/spaces.hh"
#if GODWIT_HAVE_WRAPPER
#include "wrapper/commands.hh"
#endif
#if GODWIT_HAVE_BRIDGE
#include "bridge/commands.hh"
#endif
#if GODWIT_HAVE_MIGRATE
#include "migrate/commands.hh"
#endif

int main(int argc, char** argv) {
  using namespace godwit;
  static constexpr std::array<RegisterRoom, 2 + GODWIT_HAVE_WRAPPER + GODWIT_HAVE_BRIDGE + GODWIT_HAVE_MIGRATE> kServices = {
      register_streams,
      register_spaces,
#if GODWIT_HAVE_WRAPPER
      register_wrapper,
#endif
#if GODWIT_HAVE_BRIDGE
      register_bridge,
#endif
#if GODWIT_HAVE_MIGRATE
      register_migrate,
#endif
  };
  const std::span<const Command> rooms[] = {
#if GODWIT_HAVE_WRAPPER
      wrapper_commands(),
#endif
      pod_commands(),
      space_commands(),
#if GODWIT_HAVE_MIGRATE
      migrate_commands(),
#endif
#if GODWIT_HAVE_BRIDGE
      bridge_commands(),
#endif
      node_commands(),
  };
  set_node_rooms(kServices);
  return command_main(argc, argv, rooms);
}
