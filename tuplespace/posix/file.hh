// Whole files, read and replaced. Replacing is atomic: a reader or a crash finds the old or the new.
#pragma once
#include <string>
#include <string_view>

#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/result.hh"

namespace godwit {

/// Absent is an error: no_such_file_or_directory. At most `limit` bytes, else file_too_large.
Result<std::string> read_file(const std::string& path, size_t limit = size_t{1} << 30);

enum class Durable { kNo, kYes };
/// Mode 0600, by way of PATH.new. With kYes it is on disk, name and all, when this returns.
Result<void> replace_file(const std::string& path, std::string_view content, Durable durable);

Result<void> write_all(int fd, std::string_view bytes);
/// Makes creations, renames and removals in the folder durable.
Result<void> sync_folder(const std::string& path);

}  // namespace godwit
