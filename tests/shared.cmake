add_executable(shared_test unit/shared/socket_test.cc unit/shared/segment_test.cc)
target_link_libraries(shared_test godwit_shared GTest::gtest_main)
gtest_discover_tests(shared_test PROPERTIES TIMEOUT 120)
