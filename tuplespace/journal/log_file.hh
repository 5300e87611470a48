// The log file that a journal is at: writes come to disk whole, or leave nothing behind.
#pragma once
#include <string>
#include <vector>

#include "tuplespace/journal/recovery.hh"
#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/result.hh"

namespace godwit::journal {

/// Used by one thread at a time.
class LogFile {
 public:
  /// Goes on with what was recovered: cuts what is torn, and makes the rest durable; or begins.
  ///
  /// fill_bytes   zeros that are written behind the records at a time: where the file has them already, a sync takes two thirds of
  ///              the time. 0: none.
  static Result<LogFile> open(const std::string& folder, const Recovered& recovered, uint64_t rotate_bytes, uint64_t fill_bytes);

  /// Writes the pieces one behind the other and syncs them. A file that has grown to the size for rotation is
  /// followed by a new one before.
  ///
  /// first   sequence of the first record in the pieces.
  /// errors  nothing of the pieces is in the file any more; unless is_closed(): then it was tried.
  Result<void> write(uint64_t first, const std::vector<std::string>& pieces);
  /// A sync has failed, or what was half written could not be taken off. Nobody knows what is on disk, so
  /// nothing can be written any more.
  bool is_closed() const { return closed_; }
  uint64_t id() const { return id_; }

 private:
  LogFile(std::string folder, uint64_t id, uint64_t rotate_bytes, uint64_t fill_bytes)
      : folder_(std::move(folder)), id_(id), rotate_bytes_(rotate_bytes), fill_bytes_(fill_bytes) {}
  Result<void> go_on(const std::string& path, uint64_t size);
  Result<void> begin(const std::string& path, uint64_t first);
  Result<void> write_pieces(const std::vector<std::string>& pieces);
  void fill(uint64_t end);
  Result<void> sync();
  bool take_back();

  std::string folder_;
  uint64_t id_;
  uint64_t rotate_bytes_, fill_bytes_;
  std::string path_;
  UniqueFd file_;
  uint64_t size_ = 0;  // bytes of it that are on disk
  uint64_t filled_ = 0;  // bytes of the file, if more; zeros behind size_
  bool closed_ = false;
};

}  // namespace godwit::journal
