# Spaces as programs and the shell use them.
add_library(godwit_space STATIC space/space.cc space/requests.cc space/store_server.cc space/waiting_server.cc space/lease.cc
  space/tuple_check.cc space/eval.cc space/worker.cc
  space/local.cc space/net.cc space/mediating.cc space/transacting.cc space/host.cc space/host_spaces.cc
  remote/key_file.cc remote/dealer.cc remote/connection.cc remote/messages.cc remote/remote_backend.cc remote/remote_server.cc
  remote/remote_spaces.cc remote/remote_undertaking.cc)
target_link_libraries(godwit_space PUBLIC godwit_streams)
add_library(godwit_space_commands STATIC space/commands.cc space/worker_command.cc space/tuple_lines.cc)
target_link_libraries(godwit_space_commands PUBLIC godwit_space)

# What a C++ program links: find_package(Godwit) and godwit::tuplespace, or pkg-config godwit.
add_library(tuplespace SHARED $<TARGET_OBJECTS:godwit_space> $<TARGET_OBJECTS:godwit_tuples>)
target_link_libraries(tuplespace PRIVATE godwit_streams)
target_include_directories(tuplespace INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(tuplespace INTERFACE cxx_std_20)
set_target_properties(tuplespace PROPERTIES
  LINKER_LANGUAGE CXX OUTPUT_NAME godwit-tuplespace VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
  LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/space/exports.map)
target_link_options(tuplespace PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/space/exports.map)

include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/Godwit)
install(TARGETS tuplespace EXPORT GodwitTargets)
install(DIRECTORY include/tuplespace DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT GodwitTargets NAMESPACE godwit:: DESTINATION ${package})
file(WRITE ${CMAKE_BINARY_DIR}/generated/GodwitConfig.cmake "include(\${CMAKE_CURRENT_LIST_DIR}/GodwitTargets.cmake)\n")
write_basic_package_version_file(${CMAKE_BINARY_DIR}/generated/GodwitConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/generated/GodwitConfig.cmake ${CMAKE_BINARY_DIR}/generated/GodwitConfigVersion.cmake
        DESTINATION ${package})
# The way from godwit.pc up to the prefix, whatever that is.
file(RELATIVE_PATH godwit_pc_up ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" godwit_pc_up ${godwit_pc_up})
configure_file(${CMAKE_SOURCE_DIR}/packaging/godwit.pc.in ${CMAKE_BINARY_DIR}/generated/godwit.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/generated/godwit.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
