# Tests of the node, the directory, the commands and tuples.
find_program(GODWIT_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)  # the one that apt's pyzmq is for
include(GoogleTest)

set(node_test_environment "TSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/support/tsan.supp")
function(godwit_node_test kind name seconds)
  add_executable(${name} ${ARGN})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE GODWIT_BINARY="$<TARGET_FILE:godwit>")
  target_link_libraries(${name} PRIVATE godwit_streams GTest::gtest_main rapidcheck)
  add_dependencies(${name} godwit)
  gtest_discover_tests(${name} TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST PROPERTIES
                        LABELS ${kind} TIMEOUT ${seconds} ENVIRONMENT ${node_test_environment})
  add_dependencies(sanitized ${name})
endfunction()

godwit_node_test(unit tuple_test 60 unit/tuplespace/tuple_test.cc)
godwit_node_test(unit directory_test 60 unit/tuplespace/directory_test.cc)
godwit_node_test(unit local_log_test 120 unit/tuplespace/local_log_test.cc)
godwit_node_test(unit rpc_test 60 unit/tuplespace/rpc_test.cc)
godwit_node_test(property tuple_property 120 property/tuplespace/tuple_property.cc)
godwit_node_test(unit node_test 120 unit/tuplespace/node_test.cc)
godwit_node_test(unit keeper_test 60 unit/tuplespace/keeper_test.cc)

add_executable(node_fuzz fuzz/node_fuzz.cc)
target_link_libraries(node_fuzz PRIVATE godwit_node)
add_test(NAME node_fuzz COMMAND node_fuzz ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus 20000)
add_test(NAME protocol_client.python
         COMMAND ${GODWIT_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/unit/tuplespace/protocol_client.py $<TARGET_FILE:godwit>)
set_tests_properties(node_fuzz protocol_client.python PROPERTIES
                     TIMEOUT 120 ENVIRONMENT ${node_test_environment})
set_tests_properties(node_fuzz PROPERTIES LABELS fuzz)
set_tests_properties(protocol_client.python PROPERTIES LABELS unit)
add_dependencies(sanitized node_fuzz godwit)

add_executable(source_test unit/tuplespace/source_test.cc)
target_link_libraries(source_test PRIVATE godwit_streams GTest::gtest_main)
gtest_discover_tests(source_test TEST_PREFIX source_test. DISCOVERY_MODE PRE_TEST PROPERTIES
                     TIMEOUT 120 LABELS unit)
add_dependencies(sanitized source_test)

# On one host, and over two that are namespaces.
foreach(hosts one two)
  add_test(NAME net_space.${hosts}_host COMMAND ${GODWIT_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/net_space.py
           ${CMAKE_SOURCE_DIR} ${hosts})
  set_tests_properties(net_space.${hosts}_host PROPERTIES LABELS e2e TIMEOUT 120 ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}")
endforeach()

add_test(NAME pods.two_hosts COMMAND ${GODWIT_PYTHON} -W ignore ${CMAKE_CURRENT_SOURCE_DIR}/e2e/pods_test.py)
set_tests_properties(pods.two_hosts PROPERTIES LABELS e2e TIMEOUT 120 ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}")
