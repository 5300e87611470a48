// One file of a journal, record by record. Of the file no more than a record and a buffer is in memory.
#pragma once
#include <optional>

#include "tuplespace/journal/format.hh"
#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/result.hh"

namespace godwit::journal {

/// path is damaged at byte `at`, and what to do about it.
Error damaged(const std::string& path, uint64_t at, const std::string& how);

/// Not thread-safe. Nobody writes to the file meanwhile.
class Reader {
 public:
  /// Without looking at any byte.
  static Result<Reader> open(const std::string& path);

  /// Before anything else. nullopt: torn or damaged. A file of another kind, or of an unknown version, is an error.
  Result<std::optional<FileHead>> read_head(uint32_t mark);

  enum class Found { kRecord, kEnd, kBad };
  /// kRecord  head() and bytes() are those of the next record, whose checksums are right, until the next call.
  /// kEnd     the file ends at offset(), or has nothing but zeros from there on.
  /// kBad     what is at offset() is no record. The next call says so again.
  Result<Found> next();
  const RecordHead& head() const { return record_; }
  std::string_view bytes() const { return bytes_; }
  /// Where the next record begins: all before it is good.
  uint64_t offset() const { return offset_; }
  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }

  /// After kBad. Whether a write that was begun after record `sequence` had come to disk left the head of a
  /// record behind offset().
  Result<bool> was_written_after(uint64_t sequence);

 private:
  Reader(std::string path, UniqueFd file, uint64_t size) : path_(std::move(path)), file_(std::move(file)), size_(size) {}
  Result<std::string_view> read(uint64_t at, uint64_t length);
  Result<bool> has_zeros_only();

  std::string path_;
  UniqueFd file_;
  uint64_t size_;
  uint64_t id_ = 0;
  uint64_t offset_ = 0;
  RecordHead record_;
  std::string_view bytes_;  // of buffer_
  std::string buffer_;
  uint64_t buffer_at_ = 0;  // where in the file its first byte is
  size_t buffered_ = 0;     // bytes of it that are the file's
};

}  // namespace godwit::journal
