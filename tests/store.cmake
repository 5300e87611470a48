# Tests of spaces in the segment.
add_executable(store_test unit/store/store_test.cc)
target_link_libraries(store_test godwit_store GTest::gtest_main)
gtest_discover_tests(store_test PROPERTIES LABELS unit TIMEOUT 120)
add_dependencies(sanitized store_test)

add_executable(store_fault_test fault/store/crash_campaign_test.cc)
target_link_libraries(store_fault_test godwit_store GTest::gtest_main)
gtest_discover_tests(store_fault_test TEST_PREFIX store. PROPERTIES LABELS fault TIMEOUT 600)

find_program(GODWIT_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
add_test(NAME spaces.shell COMMAND ${GODWIT_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/spaces_test.py ${CMAKE_SOURCE_DIR})
set_tests_properties(spaces.shell PROPERTIES LABELS e2e TIMEOUT 120 ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}")
