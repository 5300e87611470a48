# Moves end to end: real nodes on two hosts, real Redis, real clients.
set(demo ${CMAKE_SOURCE_DIR}/demos/move_redis/run)
add_test(NAME move.redis COMMAND ${demo} --moves 10)
add_test(NAME move.redis_100_moves COMMAND ${demo} --moves 100)
add_test(NAME move.node_killed COMMAND ${GODWIT_PYTHON} -W ignore ${CMAKE_CURRENT_SOURCE_DIR}/e2e/move/node_test.py)
foreach(way one both cut)
  add_test(NAME move.fault_${way} COMMAND ${GODWIT_PYTHON} -W ignore ${CMAKE_CURRENT_SOURCE_DIR}/e2e/move/fault_test.py ${way})
  set_tests_properties(move.fault_${way} PROPERTIES
    ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}" TIMEOUT 900 LABELS e2e RUN_SERIAL TRUE)
endforeach()
set_tests_properties(move.redis move.redis_100_moves move.node_killed PROPERTIES
  ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}" TIMEOUT 300 LABELS e2e RUN_SERIAL TRUE)

find_package(rapidcheck REQUIRED)
add_executable(streams_property_test property/streams/exactly_once_test.cc)
target_link_libraries(streams_property_test godwit_migrate rapidcheck rapidcheck_gtest GTest::gtest_main)
gtest_discover_tests(streams_property_test PROPERTIES TIMEOUT 300 LABELS property)
add_dependencies(sanitized streams_property_test)
