# Moves end to end: real nodes on two hosts, real Redis, real clients.
set(demo ${CMAKE_SOURCE_DIR}/demos/move_redis/run)
add_test(NAME move.redis COMMAND ${demo} --moves 10)
add_test(NAME move.redis_100_moves COMMAND ${demo} --moves 100)

function(move_test name seconds)
  add_test(NAME move.${name} COMMAND ${GODWIT_PYTHON} -W ignore ${CMAKE_CURRENT_SOURCE_DIR}/e2e/move/${ARGN})
  set_tests_properties(move.${name} PROPERTIES TIMEOUT ${seconds})
  list(APPEND move_tests move.${name})
  set(move_tests ${move_tests} PARENT_SCOPE)
endfunction()
set(move_tests move.redis move.redis_100_moves)
move_test(node_killed 300 node_test.py)
move_test(follow 300 follow_test.py)
foreach(way one both cut)
  move_test(fault_${way} 900 fault_test.py ${way})
endforeach()
move_test(refusal 300 refusal_test.py)
move_test(evacuate 120 evacuate_test.py)
set_tests_properties(move.redis move.redis_100_moves PROPERTIES TIMEOUT 300)
set_tests_properties(${move_tests} PROPERTIES ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}" LABELS e2e RUN_SERIAL TRUE)

find_package(rapidcheck REQUIRED)
add_executable(streams_property_test property/streams/exactly_once_test.cc)
target_link_libraries(streams_property_test godwit_migrate rapidcheck rapidcheck_gtest GTest::gtest_main)
gtest_discover_tests(streams_property_test PROPERTIES TIMEOUT 300 LABELS property)
add_dependencies(sanitized streams_property_test)

# What runs in a pod is not for the sanitizers: of the kind e2e.
add_executable(stream_end support/stream_end.cc)
set_target_properties(stream_end PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
add_executable(move_exactly_once_test e2e/move/exactly_once_test.cc)
target_compile_definitions(move_exactly_once_test PRIVATE PYTHON="${GODWIT_PYTHON}"
  TWO_HOSTS="${CMAKE_CURRENT_SOURCE_DIR}/support/two_hosts.py")
target_link_libraries(move_exactly_once_test rapidcheck rapidcheck_gtest GTest::gtest_main)
add_dependencies(move_exactly_once_test godwit godwit-wrapper stream_end)
add_test(NAME move.exactly_once COMMAND move_exactly_once_test)
set_tests_properties(move.exactly_once PROPERTIES LABELS e2e TIMEOUT 300 RUN_SERIAL TRUE
  ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR};RC_PARAMS=max_success=50 max_size=50")
