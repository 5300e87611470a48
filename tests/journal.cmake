# Tests of the journal.
set(journal_environment "TSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/support/tsan.supp")
add_executable(journal_test unit/journal/crc32c_test.cc unit/journal/damage_test.cc unit/journal/journal_test.cc)
target_compile_definitions(journal_test PRIVATE JOURNAL_PAGE="${CMAKE_SOURCE_DIR}/docs/journal.md")
target_link_libraries(journal_test PRIVATE godwit_journal GTest::gtest_main)
gtest_discover_tests(journal_test DISCOVERY_MODE PRE_TEST PROPERTIES LABELS unit TIMEOUT 300 ENVIRONMENT ${journal_environment})
add_dependencies(sanitized journal_test)

find_package(rapidcheck REQUIRED)
add_executable(journal_property property/journal/journal_property.cc)
target_link_libraries(journal_property PRIVATE godwit_journal GTest::gtest_main rapidcheck)
gtest_discover_tests(journal_property TEST_PREFIX property. DISCOVERY_MODE PRE_TEST
                     PROPERTIES LABELS property TIMEOUT 300 ENVIRONMENT ${journal_environment})
add_dependencies(sanitized journal_property)

add_executable(journal_fault_test fault/journal/journal_fault_test.cc)
target_link_libraries(journal_fault_test PRIVATE godwit_journal GTest::gtest_main)
gtest_discover_tests(journal_fault_test DISCOVERY_MODE PRE_TEST PROPERTIES LABELS fault TIMEOUT 600)
