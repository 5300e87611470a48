# The half of the tuple space that is injected into programs: no exceptions, no run-time type information,
# nothing of libstdc++ at run time. tests/unit/shared checks the last with nm.
add_library(godwit_shared STATIC
  shared/allocator.cc
  shared/bell.cc
  shared/listeners.cc
  shared/lock.cc
  shared/members.cc
  shared/names.cc
  shared/recovery.cc
  shared/segment.cc
  shared/set.cc
  shared/slot.cc
  shared/socket.cc)
target_compile_options(godwit_shared PRIVATE -fno-exceptions -fno-rtti -fvisibility=hidden -ftls-model=initial-exec)
target_link_libraries(godwit_shared PUBLIC Threads::Threads)
