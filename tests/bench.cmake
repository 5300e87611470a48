# What tests/bench/run measures; part of the release build, so that the benches need nothing but ./setup.
add_executable(bench_sockets bench/sockets.cc)
add_executable(bench_store bench/store.cc)
target_link_libraries(bench_store godwit_space)
add_executable(bench_remote bench/remote.cc)
target_link_libraries(bench_remote godwit_space)
