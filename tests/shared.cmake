add_executable(shared_test unit/shared/socket_test.cc unit/shared/segment_test.cc)
target_link_libraries(shared_test godwit_shared GTest::gtest_main)
gtest_discover_tests(shared_test PROPERTIES LABELS unit TIMEOUT 120)
add_dependencies(sanitized shared_test)

add_executable(shared_fault_test fault/shared/kill_campaign_test.cc fault/shared/single_step_test.cc)
target_link_libraries(shared_fault_test godwit_shared GTest::gtest_main)
gtest_discover_tests(shared_fault_test PROPERTIES LABELS fault TIMEOUT 600)
