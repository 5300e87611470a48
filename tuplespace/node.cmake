# The daemon of a host, its commands, and tuples as text and msgpack.
find_package(cppzmq REQUIRED)
find_package(Threads REQUIRED)
configure_file(${CMAKE_SOURCE_DIR}/tuplespace/command/version.hh.in
               ${CMAKE_BINARY_DIR}/generated/tuplespace/command/version.hh @ONLY)

add_library(godwit_command STATIC command/command.cc)
target_include_directories(godwit_command PUBLIC ${CMAKE_BINARY_DIR}/generated)

add_library(godwit_tuples STATIC tuple.cc template.cc match.cc source.cc text.cc json.cc wire.cc codec.cc store/encoding.cc)
target_compile_definitions(godwit_tuples PUBLIC MSGPACK_NO_BOOST)

add_library(godwit_node STATIC
  node/loop.cc node/home.cc node/transport.cc node/rpc.cc node/peers.cc
  node/directory.cc node/local_log.cc node/replica.cc node/node.cc node/node_pods.cc node/client.cc node/keeper.cc
  node/spawn.cc node/commands.cc node/pod_commands.cc command/facts.cc)
target_link_libraries(godwit_node PUBLIC godwit_command godwit_journal godwit_tuples zmq Threads::Threads)

install(FILES ${CMAKE_SOURCE_DIR}/packaging/godwit-node.service DESTINATION lib/systemd/user)
