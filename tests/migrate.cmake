# Tests of migrate/. They use real processes and run inside namespaces of their own.
find_package(rapidcheck REQUIRED)

add_executable(migrate_victim fault/migrate/victim.cc)
target_compile_options(migrate_victim PRIVATE -mavx2 -Wno-missing-field-initializers)
target_link_libraries(migrate_victim Threads::Threads)

add_executable(migrate_wrapped_victim fault/migrate/wrapped_victim.cc)
target_link_libraries(migrate_wrapped_victim Threads::Threads)

add_executable(migrate_unit_tests unit/migrate/image_test.cc unit/migrate/maps_test.cc unit/migrate/fault_test.cc
                                   unit/migrate/processor_test.cc)
target_link_libraries(migrate_unit_tests godwit_engine rapidcheck rapidcheck_gtest GTest::gtest_main)

add_executable(migrate_tests fault/migrate/harness.cc fault/migrate/move_test.cc fault/migrate/crash_test.cc
                             fault/migrate/refusal_test.cc fault/migrate/wrapped_test.cc)
target_compile_definitions(migrate_tests PRIVATE VICTIM_PATH="$<TARGET_FILE:migrate_victim>"
  WRAPPED_VICTIM_PATH="$<TARGET_FILE:migrate_wrapped_victim>")
target_link_libraries(migrate_tests godwit_engine GTest::gtest)
add_dependencies(migrate_tests migrate_victim migrate_wrapped_victim)

include(GoogleTest)
gtest_discover_tests(migrate_unit_tests PROPERTIES LABELS unit TIMEOUT 60)
gtest_discover_tests(migrate_tests PROPERTIES LABELS fault TIMEOUT 600)
add_dependencies(sanitized migrate_unit_tests)
