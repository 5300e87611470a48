# The wrapper's tests. A conformance program is registered twice: bare, where the kernel is the oracle, and as a pod.
add_executable(wrapped support/wrapped.cc)
target_link_libraries(wrapped godwit_pods godwit_shared)
add_dependencies(wrapped godwit-wrapper)
set_target_properties(wrapped PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})

function(conformance name)
  add_executable(conformance_${name} conformance/${name}.cc)
  target_link_libraries(conformance_${name} Threads::Threads)
  add_test(NAME kernel.${name} COMMAND conformance_${name})
  add_test(NAME wrapped.${name} COMMAND wrapped -- $<TARGET_FILE:conformance_${name}> --wrapped)
  set_tests_properties(kernel.${name} wrapped.${name} PROPERTIES TIMEOUT 120)
endfunction()
