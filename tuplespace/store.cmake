# The general store: tuples of named spaces in the segment.
add_library(godwit_store STATIC
  store/blocks.cc store/desk.cc store/index.cc store/operations.cc store/reap.cc store/spaces_table.cc store/store.cc
  store/waiters.cc)
target_link_libraries(godwit_store PUBLIC godwit_tuples godwit_shared)
