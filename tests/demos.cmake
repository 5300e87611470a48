# Tests of the demos in Linda (demos/move_redis is tested in move.cmake) and of the pages that are run.
add_test(NAME demos.linda COMMAND ${GODWIT_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/demos_test.py ${CMAKE_SOURCE_DIR})
set_tests_properties(demos.linda PROPERTIES LABELS e2e TIMEOUT 300 ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}")

foreach(page tutorial reference)
  add_test(NAME docs.${page} COMMAND ${GODWIT_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/pages_test.py ${CMAKE_SOURCE_DIR} ${page}.md)
  set_tests_properties(docs.${page} PROPERTIES LABELS e2e TIMEOUT 400 RESOURCE_LOCK install ENVIRONMENT "GODWIT_BUILD=${CMAKE_BINARY_DIR}")
endforeach()
