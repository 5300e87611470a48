# Tests of remote clients: the node's side.
set(clients_environment "TSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/support/tsan.supp")
add_executable(clients_server support/clients_server.cc)
target_link_libraries(clients_server PRIVATE godwit_clients)

function(godwit_clients_test kind name seconds)
  add_executable(${name} ${ARGN})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE CLIENTS_SERVER="$<TARGET_FILE:clients_server>")
  target_link_libraries(${name} PRIVATE godwit_clients GTest::gtest_main rapidcheck)
  add_dependencies(${name} clients_server)
  gtest_discover_tests(${name} TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST PROPERTIES
                        LABELS ${kind} TIMEOUT ${seconds} ENVIRONMENT ${clients_environment})
  add_dependencies(sanitized ${name})
endfunction()

godwit_clients_test(property clients_property 300 property/clients/once_property.cc)
godwit_clients_test(unit clients_test 120 unit/clients/clients_test.cc)
godwit_clients_test(fault clients_fault_test 120 fault/clients/killed_node_test.cc)

add_test(NAME clients.e2e COMMAND ${GODWIT_PYTHON} -W ignore ${CMAKE_CURRENT_SOURCE_DIR}/e2e/clients_test.py ${CMAKE_SOURCE_DIR})
set_tests_properties(clients.e2e PROPERTIES LABELS e2e TIMEOUT 180 ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}")

add_executable(clients_fuzz fuzz/clients_fuzz.cc)
target_link_libraries(clients_fuzz PRIVATE godwit_clients)
add_test(NAME clients_fuzz COMMAND clients_fuzz ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/clients_corpus 30000)
set_tests_properties(clients_fuzz PROPERTIES LABELS fuzz TIMEOUT 120 ENVIRONMENT ${clients_environment})
add_dependencies(sanitized clients_fuzz)
