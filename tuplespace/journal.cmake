# Files of the host, and a log of records in them.
add_library(godwit_posix STATIC posix/file.cc)
add_library(godwit_journal STATIC
  journal/crc32c.cc journal/format.cc journal/journal.cc journal/log_file.cc journal/reader.cc journal/recovery.cc journal/snapshot.cc)
target_link_libraries(godwit_journal PUBLIC godwit_posix Threads::Threads)
