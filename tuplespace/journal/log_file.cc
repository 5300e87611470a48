#include "tuplespace/journal/log_file.hh"

#include <fcntl.h>
#include <limits.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

#include "tuplespace/fault.hh"
#include "tuplespace/journal/format.hh"
#include "tuplespace/posix/file.hh"

namespace godwit::journal {
namespace {

uint64_t random_id() {
  uint64_t id = 0;
  while (id == 0) GODWIT_CHECK(getrandom(&id, sizeof id, 0) == sizeof id);
  return id;
}

}  // namespace

Result<LogFile> LogFile::open(const std::string& folder, const Recovered& recovered, uint64_t rotate_bytes,
                              uint64_t fill_bytes) {
  LogFile log(folder, recovered.id ? recovered.id : random_id(), rotate_bytes, fill_bytes);
  uint64_t first = recovered.last + 1;
  std::string path = recovered.path.empty() ? folder + "/" + log_name(first) : recovered.path;
  auto opened = recovered.size == 0 ? log.begin(path, first) : log.go_on(path, recovered.size);
  if (!opened) return opened.error();
  return log;
}

// What a killed process has written may not be on disk yet; it counts from now on.
Result<void> LogFile::go_on(const std::string& path, uint64_t size) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid()) return errno_error("opening " + path);
  if (ftruncate(file.get(), static_cast<off_t>(size)) != 0 || fdatasync(file.get()) != 0) return errno_error("cutting " + path);
  path_ = path;
  file_ = std::move(file);
  size_ = size;
  return sync_folder(folder_);
}

// A failed attempt leaves a file without a head, which is the next attempt's.
Result<void> LogFile::begin(const std::string& path, uint64_t first) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file.valid()) return errno_error("creating " + path);
  FileHead head;
  head.id = id_;
  head.sequence = first;
  auto written = write_all(file.get(), encode(head));
  closed_ = true;  // unless all that follows is well
  if (!written) {
    closed_ = ftruncate(file.get(), 0) != 0;
    return Error{written.error().code, "writing " + path};
  }
  if (fdatasync(file.get()) != 0) return errno_error("syncing " + path);
  if (auto synced = sync_folder(folder_); !synced) return synced;
  closed_ = false;
  path_ = path;
  file_ = std::move(file);
  size_ = kHead;
  filled_ = 0;
  return {};
}

Result<void> LogFile::write(uint64_t first, const std::vector<std::string>& pieces) {
  if (size_ >= rotate_bytes_)
    if (auto begun = begin(folder_ + "/" + log_name(first), first); !begun) return begun;
  uint64_t end = size_;
  for (const std::string& piece : pieces) end += piece.size();
  auto written = write_pieces(pieces);
  if (written) fill(end);
  if (written && GODWIT_FAULT_ERROR("journal.write")) written = make_error(std::errc::no_space_on_device, "writing " + path_);
  if (!written) {
    closed_ = !take_back();
    return written;
  }
  if (auto synced = sync(); !synced) {
    closed_ = true;
    take_back();
    return synced;
  }
  size_ = end;
  return {};
}

// Where there is no room for zeros, records come without.
void LogFile::fill(uint64_t end) {
  static constexpr char kZeros[64 << 10] = {};
  if (fill_bytes_ == 0 || end <= filled_) return;
  filled_ = end;
  while (filled_ < end + fill_bytes_) {
    ssize_t put = pwrite(file_.get(), kZeros, sizeof kZeros, static_cast<off_t>(filled_));
    if (put <= 0) return;
    filled_ += static_cast<uint64_t>(put);
  }
}

Result<void> LogFile::write_pieces(const std::vector<std::string>& pieces) {
  std::vector<iovec> left;
  for (const std::string& piece : pieces) left.push_back({const_cast<char*>(piece.data()), piece.size()});
  auto next = left.begin();
  for (off_t at = static_cast<off_t>(size_); next != left.end();) {
    int count = static_cast<int>(std::min<ptrdiff_t>(left.end() - next, IOV_MAX));
    ssize_t put = pwritev(file_.get(), &*next, count, at);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno_error("writing " + path_);
    at += put;
    size_t taken = static_cast<size_t>(put);
    for (; next != left.end() && taken >= next->iov_len; ++next) taken -= next->iov_len;
    if (next != left.end()) *next = {static_cast<char*>(next->iov_base) + taken, next->iov_len - taken};
  }
  return {};
}

Result<void> LogFile::sync() {
  GODWIT_FAULT_POINT("journal.before_sync");
  if (GODWIT_FAULT_ERROR("journal.sync")) return make_error(std::errc::io_error, "syncing " + path_);
  if (fdatasync(file_.get()) != 0) return errno_error("syncing " + path_);
  GODWIT_FAULT_POINT("journal.after_sync");
  return {};
}

bool LogFile::take_back() {
  filled_ = 0;
  return ftruncate(file_.get(), static_cast<off_t>(size_)) == 0 && fdatasync(file_.get()) == 0;
}

}  // namespace godwit::journal
