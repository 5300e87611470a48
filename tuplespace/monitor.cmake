# What there is to see of a running host: godwit top, and metrics for Prometheus.
find_package(prometheus-cpp CONFIG REQUIRED)
add_library(godwit_monitor STATIC monitor/metrics.cc monitor/top.cc)
target_link_libraries(godwit_monitor PUBLIC godwit_space prometheus-cpp::pull)
