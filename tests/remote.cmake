# Tests of clients of other hosts.
godwit_node_test(unit remote_test 300 unit/remote/remote_test.cc)
target_link_libraries(remote_test PRIVATE godwit_space)
godwit_node_test(property remote_property 300 property/remote/remote_property.cc)
target_link_libraries(remote_property PRIVATE godwit_space)

add_test(NAME remote.shell COMMAND ${GODWIT_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/remote_test.py ${CMAKE_SOURCE_DIR})
add_test(NAME remote.python COMMAND ${GODWIT_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/python_client_test.py ${CMAKE_SOURCE_DIR})
set_tests_properties(remote.shell remote.python PROPERTIES LABELS e2e TIMEOUT 200 ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}")
