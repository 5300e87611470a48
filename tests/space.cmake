# Tests of spaces as programs use them.
godwit_node_test(unit space_test 120 unit/space/space_test.cc)
target_link_libraries(space_test PRIVATE godwit_space)

add_test(NAME package.consumer COMMAND ${GODWIT_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/package_test.py ${CMAKE_SOURCE_DIR})
set_tests_properties(package.consumer PROPERTIES LABELS e2e TIMEOUT 300 RESOURCE_LOCK install ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}")
