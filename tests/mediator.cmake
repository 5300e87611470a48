# Tests of mediators.
set(mediator_environment "TSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/support/tsan.supp")
add_executable(mediator_test unit/streams/mediator_test.cc)
target_link_libraries(mediator_test PRIVATE godwit_streams GTest::gtest_main)
gtest_discover_tests(mediator_test DISCOVERY_MODE PRE_TEST PROPERTIES LABELS unit TIMEOUT 120 ENVIRONMENT ${mediator_environment})
add_dependencies(sanitized mediator_test)
