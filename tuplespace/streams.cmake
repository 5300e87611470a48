# The node's part in streams: carriers, far connections, proxies.
add_library(godwit_streams STATIC
  streams/streams.cc streams/knock.cc streams/carrier.cc streams/far.cc streams/host_segment.cc streams/service.cc
  streams/keeping.cc streams/mediator.cc streams/placeholder.cc streams/deaths.cc streams/reaper.cc streams/ring_waiter.cc
  streams/source.cc streams/spaces.cc streams/visit.cc)
target_link_libraries(godwit_streams PUBLIC godwit_node godwit_shared godwit_store)
