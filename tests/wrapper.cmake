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
  set_tests_properties(kernel.${name} wrapped.${name} PROPERTIES LABELS conformance TIMEOUT 120)
endfunction()
foreach(name connection transfer waiting processes)
  conformance(${name})
endforeach()

# It says impossible things to the kernel.
target_compile_options(conformance_transfer PRIVATE -Wno-stringop-overflow -Wno-stringop-overread)

find_path(RAPIDCHECK_INCLUDE rapidcheck.h)
add_executable(conformance_script conformance/script.cc)
add_executable(sockets_property_test property/wrapper/sockets_property_test.cc)
target_compile_definitions(sockets_property_test PRIVATE
  SCRIPT_PROGRAM="$<TARGET_FILE:conformance_script>" WRAPPED="$<TARGET_FILE:wrapped>")
target_link_libraries(sockets_property_test rapidcheck GTest::gtest_main)
add_dependencies(sockets_property_test conformance_script wrapped godwit-wrapper)
# What runs in a pod is of the kind conformance: the sanitizers cannot be preloaded besides.
gtest_discover_tests(sockets_property_test PROPERTIES LABELS conformance TIMEOUT 300)

add_test(NAME wrapper.exports COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/unit/wrapper/exports.sh
  $<TARGET_FILE:godwit-wrapper> ${CMAKE_SOURCE_DIR}/wrapper/calls.def)
set_tests_properties(wrapper.exports PROPERTIES LABELS conformance TIMEOUT 60)
add_executable(static_program e2e/wrapper/static_program.c)
target_compile_options(static_program PRIVATE -fno-sanitize=all)
target_link_options(static_program PRIVATE -static -fno-sanitize=all)
add_executable(wrapper_pods_test unit/wrapper/pods_test.cc)
target_compile_definitions(wrapper_pods_test PRIVATE STATIC_PROGRAM="$<TARGET_FILE:static_program>")
target_link_libraries(wrapper_pods_test godwit_pods rapidcheck GTest::gtest_main)
gtest_discover_tests(wrapper_pods_test PROPERTIES LABELS unit TIMEOUT 60)
add_dependencies(wrapper_pods_test static_program)
add_dependencies(sanitized wrapper_pods_test)
add_executable(wrapper_run_test e2e/wrapper/run_test.cc)
target_compile_definitions(wrapper_run_test PRIVATE GODWIT_BINARY="$<TARGET_FILE:godwit>" STATIC_PROGRAM="$<TARGET_FILE:static_program>")
target_link_libraries(wrapper_run_test godwit_streams GTest::gtest_main)
add_dependencies(wrapper_run_test godwit godwit-wrapper static_program)
gtest_discover_tests(wrapper_run_test PROPERTIES LABELS e2e TIMEOUT 120)
