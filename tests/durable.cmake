# Tests of durable spaces.
set(durable_environment "TSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/support/tsan.supp")
add_executable(durable_test unit/durable/record_test.cc unit/durable/space_log_test.cc)
target_link_libraries(durable_test godwit_durable GTest::gtest_main)
gtest_discover_tests(durable_test PROPERTIES LABELS unit TIMEOUT 120 ENVIRONMENT ${durable_environment})
add_dependencies(sanitized durable_test)

add_executable(durable_property property/durable/space_log_property.cc)
target_link_libraries(durable_property godwit_durable GTest::gtest_main rapidcheck)
gtest_discover_tests(durable_property PROPERTIES LABELS property TIMEOUT 300 ENVIRONMENT "RC_PARAMS=max_success=40")
add_dependencies(sanitized durable_property)

add_executable(durable_fault_test fault/durable/space_log_fault_test.cc)
target_link_libraries(durable_fault_test godwit_durable GTest::gtest_main)
gtest_discover_tests(durable_fault_test PROPERTIES LABELS fault TIMEOUT 300)

add_test(NAME durable.e2e COMMAND ${GODWIT_PYTHON} -W ignore ${CMAKE_CURRENT_SOURCE_DIR}/e2e/durable_test.py ${CMAKE_SOURCE_DIR})
set_tests_properties(durable.e2e PROPERTIES LABELS e2e TIMEOUT 120 ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}")
