# Tests of spaces in the segment.
set(store_environment "TSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/support/tsan.supp")
add_executable(store_test unit/store/store_test.cc unit/store/damage_test.cc unit/store/recovery_test.cc
               unit/store/watches_test.cc unit/store/requests_test.cc unit/store/transactions_test.cc unit/store/leases_test.cc
               unit/store/linearizability_test.cc)
target_link_libraries(store_test godwit_store GTest::gtest_main)
gtest_discover_tests(store_test PROPERTIES LABELS unit TIMEOUT 120 ENVIRONMENT ${store_environment})
add_dependencies(sanitized store_test)

add_executable(reaper_test unit/store/reaper_test.cc)
target_link_libraries(reaper_test godwit_streams GTest::gtest_main)
gtest_discover_tests(reaper_test PROPERTIES LABELS unit TIMEOUT 60 ENVIRONMENT ${store_environment})
add_dependencies(sanitized reaper_test)

add_executable(store_property property/store/store_property.cc property/store/linearizability_property.cc)
target_link_libraries(store_property godwit_store GTest::gtest_main rapidcheck)
gtest_discover_tests(store_property TEST_PREFIX store. PROPERTIES LABELS property TIMEOUT 300 ENVIRONMENT ${store_environment})
add_dependencies(sanitized store_property)

add_executable(store_fuzz fuzz/store_fuzz.cc)
target_link_libraries(store_fuzz godwit_tuples)
add_test(NAME store_fuzz COMMAND store_fuzz ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/store_corpus 50000)
set_tests_properties(store_fuzz PROPERTIES LABELS fuzz TIMEOUT 120)
add_dependencies(sanitized store_fuzz)

add_executable(store_fault_test fault/store/crash_campaign_test.cc fault/store/single_step_test.cc fault/store/damage_campaign_test.cc)
target_link_libraries(store_fault_test godwit_durable GTest::gtest_main)
target_link_options(store_fault_test PRIVATE -Wl,-z,now)  # no steps through the dynamic linker
gtest_discover_tests(store_fault_test TEST_PREFIX store. PROPERTIES LABELS fault TIMEOUT 600)

find_program(GODWIT_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
add_test(NAME spaces.shell COMMAND ${GODWIT_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/spaces_test.py ${CMAKE_SOURCE_DIR})
add_test(NAME monitor COMMAND ${GODWIT_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/monitor_test.py ${CMAKE_SOURCE_DIR})
set_tests_properties(spaces.shell monitor PROPERTIES LABELS e2e TIMEOUT 120 ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}")
