#include "tuplespace/journal/recovery.hh"

#include <unistd.h>

#include <algorithm>
#include <iterator>

#include "tuplespace/journal/reader.hh"

namespace godwit::journal {
namespace {

constexpr uint64_t kAll = ~uint64_t{0};

class Recovery {
 public:
  Recovery(const std::string& folder, uint64_t up_to, const OnSnapshotRecord& on_snapshot_record, const OnRecord& on_record)
      : folder_(folder), up_to_(up_to), on_snapshot_record_(on_snapshot_record), on_record_(on_record) {}

  Result<Recovered> run() {
    bool tidies = up_to_ == kAll;
    if (tidies) unlink(fresh_snapshot_path(folder_).c_str());
    if (auto read = read_snapshot(); !read) return read.error();
    auto files = log_files(folder_);
    if (!tidies) files.erase(files.upper_bound(up_to_), files.end());
    while (tidies && files.size() > 1 && std::next(files.begin())->first <= out_.snapshot_at + 1) {
      unlink(files.begin()->second.c_str());
      files.erase(files.begin());
    }
    if (tidies && files.empty() && out_.snapshot_at > 0)
      return damaged(snapshot_path(folder_), 0, "the log file that goes on after it is missing");
    if (!files.empty()) out_.last = std::min(files.begin()->first - 1, out_.snapshot_at);
    for (const auto& [first, path] : files)
      if (auto read = read_log(first, path, path == files.rbegin()->second); !read) return read.error();
    if (!tidies && out_.last < up_to_) return damaged(out_.path, out_.size, "records " + range(out_.last + 1, up_to_) + " are missing");
    if (out_.last < out_.snapshot_at)
      return damaged(out_.path, out_.size, "records " + range(out_.last + 1, out_.snapshot_at) + " are missing");
    return out_;
  }

 private:
  static std::string range(uint64_t first, uint64_t last) { return std::to_string(first) + " to " + std::to_string(last); }

  // All files of a journal have the id of its first one.
  Result<void> check(const FileHead& head, const std::string& path) {
    if (out_.id != 0 && head.id != out_.id) return damaged(path, 0, "it is of another journal");
    out_.id = head.id;
    return {};
  }

  Result<void> read_snapshot() {
    std::string path = snapshot_path(folder_);
    auto reader = Reader::open(path);
    if (!reader) return reader.error().code == std::errc::no_such_file_or_directory ? Result<void>{} : reader.error();
    auto head = reader->read_head(kSnapshotMark);
    if (!head) return head.error();
    if (!*head) return damaged(path, 0, "its head is wrong");
    if (auto checked = check(**head, path); !checked) return checked;
    out_.snapshot_at = (*head)->sequence;
    for (uint64_t expected = 1;; ++expected) {
      uint64_t at = reader->offset();
      auto found = reader->next();
      if (!found) return found.error();
      if (*found != Reader::Found::kRecord || reader->head().sequence != expected)
        return damaged(path, at, "record " + std::to_string(expected) + " of the snapshot is wrong");
      if (reader->head().mark == kEndMark) break;
      if (auto heard = on_snapshot_record_(reader->bytes()); !heard) return heard;
    }
    if (reader->offset() != reader->size()) return damaged(path, reader->offset(), "the snapshot ends before its file");
    return {};
  }

  Result<void> read_log(uint64_t first, const std::string& path, bool is_last) {
    if (first != out_.last + 1)
      return damaged(path, 0, first > out_.last + 1 ? "records " + range(out_.last + 1, first - 1) + " before it are missing"
                                                    : "record " + std::to_string(first) + " stands before it, too");
    auto reader = Reader::open(path);
    if (!reader) return reader.error();
    out_.path = path;
    out_.size = 0;
    auto head = reader->read_head(kLogMark);
    if (!head) return head.error();
    if (!*head) {
      // A head is on disk before anything is written behind it.
      if (!is_last || reader->size() > kHead) return damaged(path, 0, "its head is wrong");
      out_.torn_bytes = reader->size();
      return {};
    }
    if (auto checked = check(**head, path); !checked) return checked;
    if ((*head)->sequence != first) return damaged(path, 0, "it has the name of another file");
    return read_records(*reader, is_last);
  }

  Result<void> read_records(Reader& reader, bool is_last) {
    while (out_.last < up_to_) {
      uint64_t at = reader.offset();
      auto found = reader.next();
      if (!found) return found.error();
      out_.size = at;
      if (*found == Reader::Found::kEnd) return {};
      if (*found == Reader::Found::kBad) return settle_bad(reader, is_last);
      const RecordHead& head = reader.head();
      if (head.mark != kRecordMark || head.sequence != out_.last + 1)
        return damaged(reader.path(), at, "record " + std::to_string(out_.last + 1) + " is another one");
      out_.last = head.sequence;
      if (out_.last <= out_.snapshot_at) continue;
      if (auto heard = on_record_(out_.last, reader.bytes()); !heard) return heard;
    }
    return {};
  }

  // Torn is only what was not on disk when the writing process or its host ended: the last write.
  Result<void> settle_bad(Reader& reader, bool is_last) {
    auto behind = is_last ? reader.was_written_after(out_.last + 1) : Result<bool>(true);
    if (!behind) return behind.error();
    if (*behind) return damaged(reader.path(), reader.offset(), "record " + std::to_string(out_.last + 1) + " is wrong");
    out_.torn_bytes = reader.size() - reader.offset();
    return {};
  }

  const std::string& folder_;
  const uint64_t up_to_;
  const OnSnapshotRecord& on_snapshot_record_;
  const OnRecord& on_record_;
  Recovered out_;
};

}  // namespace

Result<Recovered> recover(const std::string& folder, const OnSnapshotRecord& on_snapshot_record, const OnRecord& on_record) {
  return Recovery(folder, kAll, on_snapshot_record, on_record).run();
}

Result<void> read_again(const std::string& folder, uint64_t up_to, const OnSnapshotRecord& on_snapshot_record, const OnRecord& on_record) {
  auto read = Recovery(folder, up_to, on_snapshot_record, on_record).run();
  return read ? Result<void>() : read.error();
}

}  // namespace godwit::journal
