# Tests of the node, the directory, the commands and tuples.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
enable_testing()
include(GoogleTest)

function(godwit_node_test name seconds)
  add_executable(${name} ${ARGN})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE GODWIT_BINARY="$<TARGET_FILE:godwit>")
  target_link_libraries(${name} PRIVATE godwit_node GTest::gtest_main rapidcheck)
  add_dependencies(${name} godwit)
  gtest_discover_tests(${name} TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT ${seconds})
endfunction()

godwit_node_test(tuple_test 60 unit/tuplespace/tuple_test.cc)
godwit_node_test(directory_test 60 unit/tuplespace/directory_test.cc)
godwit_node_test(local_log_test 120 unit/tuplespace/local_log_test.cc)
godwit_node_test(rpc_test 60 unit/tuplespace/rpc_test.cc)
godwit_node_test(tuple_property 120 property/tuplespace/tuple_property.cc)
