# Durable spaces: the node's log of them.
add_library(godwit_durable STATIC durable/service.cc durable/space_log.cc durable/survivors.cc)
target_link_libraries(godwit_durable PUBLIC godwit_streams godwit_journal)
