# Tests of spaces as programs use them. Children of fork that use another host's begin threads.
set(node_test_environment "${node_test_environment}:die_after_fork=0")
godwit_node_test(unit space_test 120 unit/space/space_test.cc)
target_link_libraries(space_test PRIVATE godwit_space)
godwit_node_test(unit eval_test 120 unit/space/eval_test.cc)
target_link_libraries(eval_test PRIVATE godwit_space)
godwit_node_test(property eval_property 300 property/space/eval_property.cc)
target_link_libraries(eval_property PRIVATE godwit_space)

add_executable(eval_program support/eval_program.cc)
target_link_libraries(eval_program PRIVATE tuplespace)
add_test(NAME worker.shell COMMAND ${GODWIT_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/worker_test.py ${CMAKE_SOURCE_DIR})
set_tests_properties(worker.shell PROPERTIES LABELS e2e TIMEOUT 120 ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}")

add_test(NAME package.consumer COMMAND ${GODWIT_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/package_test.py ${CMAKE_SOURCE_DIR})
set_tests_properties(package.consumer PROPERTIES LABELS e2e TIMEOUT 300 RESOURCE_LOCK install ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}")
