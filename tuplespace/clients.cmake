# Remote clients of spaces: the node's side of their protocol, and their keys.
add_library(godwit_clients STATIC
  clients/audit.cc clients/commands.cc clients/endpoint.cc clients/ledger.cc clients/message.cc clients/net.cc clients/operations.cc clients/registry.cc
  clients/requests.cc clients/server.cc clients/service.cc clients/waiting.cc)
target_link_libraries(godwit_clients PUBLIC godwit_streams godwit_durable)
