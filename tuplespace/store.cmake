# The general store: tuples of named spaces in the segment.
add_library(godwit_store STATIC
  store/blocks.cc store/delivery.cc store/desk.cc store/durability.cc store/groups.cc store/index.cc store/leases.cc store/look.cc
  store/one_moment.cc store/publish.cc store/reap.cc store/record.cc store/requests.cc store/root.cc store/shapes.cc store/spaces_table.cc
  store/store.cc store/store_bulk.cc store/store_get.cc store/store_put.cc store/store_watch.cc store/table.cc
  store/transactions.cc store/waiters.cc store/watches.cc)
target_link_libraries(godwit_store PUBLIC godwit_tuples godwit_shared)
