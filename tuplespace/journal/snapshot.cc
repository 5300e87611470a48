// Snapshots: written beside the one that stands, and put in its place by a rename.
#include <fcntl.h>
#include <unistd.h>

#include <iterator>

#include "tuplespace/fault.hh"
#include "tuplespace/journal/crc32c.hh"
#include "tuplespace/journal/format.hh"
#include "tuplespace/journal/journal.hh"
#include "tuplespace/posix/file.hh"

namespace godwit {
namespace {

constexpr size_t kBuffer = size_t{256} << 10;

}  // namespace

Result<Journal::Snapshot> Journal::begin_snapshot(uint64_t at) {
  GODWIT_CHECK(at <= durable() && at >= snapshot_at_.load());
  std::string path = journal::fresh_snapshot_path(folder_);
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid()) return errno_error("creating " + path);
  Snapshot out(*this, at, std::move(file));
  out.buffer_ = journal::encode(journal::FileHead{journal::kSnapshotMark, journal::kVersion, id_, at});
  return out;
}

Journal::Snapshot::~Snapshot() {
  if (file_.valid()) unlink(journal::fresh_snapshot_path(journal_->folder_).c_str());
}

Result<void> Journal::Snapshot::add(std::string_view record) { return put(journal::kRecordMark, record); }

Result<void> Journal::Snapshot::put(uint32_t mark, std::string_view record) {
  if (record.size() > kMaxRecord)
    return make_error(std::errc::message_size, "adding to a snapshot of the journal in " + journal_->folder_);
  journal::RecordHead head{mark, static_cast<uint32_t>(record.size()), ++records_, 0, crc32c(record)};
  buffer_ += journal::encode(head, journal_->id_);
  if (record.size() > kBuffer) {
    auto flushed = flush();
    return flushed ? write(record) : flushed;
  }
  buffer_ += record;
  return buffer_.size() > kBuffer ? flush() : Result<void>{};
}

Result<void> Journal::Snapshot::flush() {
  auto written = write(buffer_);
  buffer_.clear();
  return written;
}

Result<void> Journal::Snapshot::write(std::string_view bytes) {
  auto written = write_all(file_.get(), bytes);
  return written ? written : Error{written.error().code, "writing " + journal::fresh_snapshot_path(journal_->folder_)};
}

Result<void> Journal::Snapshot::commit() {
  const std::string& folder = journal_->folder_;
  std::string fresh = journal::fresh_snapshot_path(folder), path = journal::snapshot_path(folder);
  if (auto put_end = put(journal::kEndMark, {}); !put_end) return put_end;
  if (auto flushed = flush(); !flushed) return flushed;
  if (fsync(file_.get()) != 0) return errno_error("syncing " + fresh);
  GODWIT_FAULT_POINT("journal.snapshot.before_rename");
  if (rename(fresh.c_str(), path.c_str()) != 0) return errno_error("renaming " + fresh);
  file_.reset();
  GODWIT_FAULT_POINT("journal.snapshot.after_rename");
  auto files = journal::log_files(folder);  // before the sync: a file that follows another is on disk, too
  if (auto synced = sync_folder(folder); !synced) return synced;
  journal_->snapshot_at_ = at_;
  for (auto file = files.begin(); file != files.end() && std::next(file) != files.end(); ++file)
    if (std::next(file)->first <= at_ + 1) unlink(file->second.c_str());
  return {};
}

}  // namespace godwit
