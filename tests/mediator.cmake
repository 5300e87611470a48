# Tests of mediators.
set(mediator_environment "TSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/support/tsan.supp")
add_executable(mediator_test unit/streams/mediator_test.cc)
target_link_libraries(mediator_test PRIVATE godwit_streams GTest::gtest_main)
gtest_discover_tests(mediator_test DISCOVERY_MODE PRE_TEST PROPERTIES LABELS unit TIMEOUT 120 ENVIRONMENT ${mediator_environment})
add_dependencies(sanitized mediator_test)

add_executable(mediator_property property/streams/mediator_property.cc)
target_link_libraries(mediator_property PRIVATE godwit_streams GTest::gtest_main rapidcheck)
gtest_discover_tests(mediator_property TEST_PREFIX property. DISCOVERY_MODE PRE_TEST
                     PROPERTIES LABELS property TIMEOUT 300 ENVIRONMENT ${mediator_environment})
add_dependencies(sanitized mediator_property)

add_executable(mediator_fault_test fault/streams/mediator_fault_test.cc)
target_link_libraries(mediator_fault_test PRIVATE godwit_streams GTest::gtest_main)
target_link_options(mediator_fault_test PRIVATE -Wl,-z,now)  # no steps through the dynamic linker
gtest_discover_tests(mediator_fault_test DISCOVERY_MODE PRE_TEST PROPERTIES LABELS fault TIMEOUT 600)

find_program(GODWIT_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
add_test(NAME mediator.programs COMMAND ${GODWIT_PYTHON} -W ignore ${CMAKE_CURRENT_SOURCE_DIR}/e2e/mediator_test.py ${CMAKE_SOURCE_DIR})
add_test(NAME demo.http_mediator COMMAND ${CMAKE_SOURCE_DIR}/demos/http_mediator/run)
set_tests_properties(mediator.programs demo.http_mediator PROPERTIES LABELS e2e TIMEOUT 120 ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}")
