# Tests of spaces in the segment.
add_executable(store_test unit/store/store_test.cc)
target_link_libraries(store_test godwit_store GTest::gtest_main)
gtest_discover_tests(store_test PROPERTIES LABELS unit TIMEOUT 120)
add_dependencies(sanitized store_test)

add_executable(store_fault_test fault/store/crash_campaign_test.cc)
target_link_libraries(store_fault_test godwit_store GTest::gtest_main)
gtest_discover_tests(store_fault_test TEST_PREFIX store. PROPERTIES LABELS fault TIMEOUT 600)
