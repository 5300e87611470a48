#include "tuplespace/node/local_log.hh"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <boost/crc.hpp>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include "tuplespace/fault.hh"
#include "tuplespace/posix/file.hh"

namespace godwit {
namespace {

constexpr uint32_t kRecordMagic = 0x31525747;    // "GWR1"
constexpr uint32_t kSnapshotMagic = 0x31535747;  // "GWS1"
constexpr size_t kRecordHead = 12;               // magic, length, checksum
constexpr size_t kMaxRecord = size_t{256} << 20;
constexpr size_t kRecentBytes = size_t{8} << 20;  // kept in memory for followers

uint32_t crc32c(std::string_view bytes) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(bytes.data(), bytes.size());
  return crc.checksum();
}

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);  // x86-64: little endian
}

template <class T>
bool take(std::string_view& from, T& to) {
  if (from.size() < sizeof to) return false;
  std::memcpy(&to, from.data(), sizeof to);
  from.remove_prefix(sizeof to);
  return true;
}

std::string encode_record(uint64_t first, const std::vector<std::string>& batches) {
  std::string body;
  put(body, first);
  put(body, static_cast<uint32_t>(batches.size()));
  for (const auto& batch : batches) {
    put(body, static_cast<uint32_t>(batch.size()));
    body += batch;
  }
  std::string record;
  put(record, kRecordMagic);
  put(record, static_cast<uint32_t>(body.size()));
  put(record, crc32c(body));
  return record + body;
}

// The body of the record at the front of `bytes`; nullopt if that is torn or no record.
std::optional<std::string_view> record_body(std::string_view bytes) {
  uint32_t magic = 0, length = 0, checksum = 0;
  if (!take(bytes, magic) || !take(bytes, length) || !take(bytes, checksum)) return std::nullopt;
  if (magic != kRecordMagic || length > kMaxRecord || length > bytes.size()) return std::nullopt;
  std::string_view body = bytes.substr(0, length);
  return crc32c(body) == checksum ? std::optional(body) : std::nullopt;
}

bool decode_body(std::string_view body, std::vector<CommandLog::Entry>& entries) {
  uint64_t index = 0;
  uint32_t count = 0, length = 0;
  if (!take(body, index) || !take(body, count)) return false;
  for (uint32_t i = 0; i < count; ++i) {
    if (!take(body, length) || length > body.size()) return false;
    entries.push_back({index + i, std::string(body.substr(0, length))});
    body.remove_prefix(length);
  }
  return body.empty();
}

struct Scan {
  std::vector<CommandLog::Entry> entries;
  size_t good_bytes = 0;
  bool damaged = false;  // a good record behind a bad one
};

bool good_record_behind(std::string_view bytes) {
  char magic[4];
  std::memcpy(magic, &kRecordMagic, 4);
  std::string_view mark(magic, 4);
  for (size_t at = bytes.find(mark, 1); at != std::string_view::npos; at = bytes.find(mark, at + 1))
    if (record_body(bytes.substr(at))) return true;
  return false;
}

Scan scan_file(std::string_view bytes) {
  Scan scan;
  while (scan.good_bytes < bytes.size()) {
    std::string_view rest = bytes.substr(scan.good_bytes);
    auto body = record_body(rest);
    if (!body || !decode_body(*body, scan.entries)) {
      scan.damaged = good_record_behind(rest);
      return scan;
    }
    scan.good_bytes += kRecordHead + body->size();
  }
  return scan;
}

std::string wal_name(uint64_t first) {
  char name[32];
  std::snprintf(name, sizeof name, "wal.%020llu", static_cast<unsigned long long>(first));
  return name;
}

std::map<uint64_t, std::string> wal_files(const std::string& folder) {
  std::map<uint64_t, std::string> files;
  DIR* dir = opendir(folder.c_str());
  if (!dir) return files;
  while (const dirent* entry = readdir(dir)) {
    unsigned long long first = 0;
    if (std::sscanf(entry->d_name, "wal.%20llu", &first) == 1 && wal_name(first) == entry->d_name)
      files[first] = folder + "/" + entry->d_name;
  }
  closedir(dir);
  return files;
}

Error damaged(const std::string& path) {
  return make_error(std::errc::io_error,
                    path + " is damaged in its middle; restore the folder from a copy, or from another host's disk");
}

Result<std::pair<uint64_t, std::string>> read_snapshot(const std::string& path) {
  auto text = read_file(path);
  if (!text && text.error().code == std::errc::no_such_file_or_directory) return std::pair<uint64_t, std::string>{};
  if (!text) return text.error();
  std::string_view rest = *text;
  uint32_t magic = 0, checksum = 0;
  uint64_t index = 0;
  if (!take(rest, magic) || !take(rest, checksum) || magic != kSnapshotMagic || crc32c(rest) != checksum ||
      !take(rest, index))
    return damaged(path);
  return std::pair(index, std::string(rest));
}

std::string encode_snapshot(uint64_t index, std::string_view state) {
  std::string body;
  put(body, index);
  body += state;
  std::string out;
  put(out, kSnapshotMagic);
  put(out, crc32c(body));
  return out + body;
}

}  // namespace

// The thread that waits for the disk. Takes all that is queued as one record: group commit.
class LocalLog::Writer {
 public:
  struct Append {
    std::string batch;
    std::function<void(Index)> callback;
  };
  using Committed = std::function<void(uint64_t first, std::vector<std::string> batches)>;

  Writer(std::string folder, uint64_t next, UniqueFd file, size_t size, Post post, Committed committed)
      : folder_(std::move(folder)), next_(next), file_(std::move(file)), size_(size), post_(std::move(post)),
        committed_(std::move(committed)), thread_([this] { run(); }) {}

  ~Writer() {
    {
      std::lock_guard guard(lock_);
      closing_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  void append(Append append) {
    {
      std::lock_guard guard(lock_);
      queue_.push_back(std::move(append));
    }
    wake_.notify_one();
  }

  void trim(uint64_t index, std::string snapshot) {
    {
      std::lock_guard guard(lock_);
      trim_ = {index, std::move(snapshot)};
    }
    wake_.notify_one();
  }

 private:
  void run() {
    for (;;) {
      std::unique_lock guard(lock_);
      wake_.wait(guard, [this] { return closing_ || !queue_.empty() || trim_; });
      auto batch = std::exchange(queue_, {});
      auto trim = std::exchange(trim_, std::nullopt);
      bool last = closing_;
      guard.unlock();
      if (!batch.empty()) write(std::move(batch));
      if (trim) shorten(trim->first, trim->second);
      if (last) return;
    }
  }

  void write(std::vector<Append> appends) {
    std::vector<std::string> batches;
    for (auto& append : appends) batches.push_back(std::move(append.batch));
    uint64_t first = next_;
    if (auto written = write_record(encode_record(first, batches)); !written) return refuse(appends, written.error());
    next_ += batches.size();
    post_([committed = committed_, first, batches = std::move(batches), appends = std::move(appends)] {
      committed(first, batches);
      for (size_t i = 0; i < appends.size(); ++i) appends[i].callback(first + i);
    });
  }

  void refuse(std::vector<Append>& appends, const Error& error) {
    post_([appends = std::move(appends), error] {
      for (const auto& append : appends) append.callback(error);
    });
  }

  // After a failed fdatasync nobody knows what is on disk, so nothing is accepted any more.
  Result<void> write_record(const std::string& record) {
    if (broken_) return make_error(std::errc::io_error, "the directory's log failed before; see the disk of " +
                                                            folder_ + " and restart the node");
    auto written = write_all(file_.get(), record);
    if (GODWIT_FAULT_ERROR("directory.append.write")) written = make_error(std::errc::no_space_on_device, "");
    if (!written) {
      broken_ = ftruncate(file_.get(), static_cast<off_t>(size_)) != 0 || fdatasync(file_.get()) != 0;
      return Error{written.error().code, "writing the directory's log in " + folder_};
    }
    GODWIT_FAULT_POINT("directory.append.before_sync");
    if (fdatasync(file_.get()) != 0) {
      broken_ = true;
      return errno_error("syncing the directory's log in " + folder_);
    }
    GODWIT_FAULT_POINT("directory.append.after_sync");
    size_ += record.size();
    return {};
  }

  // The snapshot is on disk before anything that it stands for goes.
  void shorten(uint64_t index, const std::string& snapshot) {
    auto saved = replace_file(folder_ + "/snapshot", encode_snapshot(index, snapshot), Durable::kYes);
    if (!saved || broken_) return;
    GODWIT_FAULT_POINT("directory.trim.after_snapshot");
    UniqueFd fresh(::open((folder_ + "/" + wal_name(next_)).c_str(),
                        O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600));
    if (!fresh.valid() || !sync_folder(folder_)) return;
    file_ = std::move(fresh);
    size_ = 0;
    auto files = wal_files(folder_);
    for (auto file = files.begin(); std::next(file) != files.end(); ++file)
      if (std::next(file)->first <= index + 1) unlink(file->second.c_str());
  }

  const std::string folder_;
  uint64_t next_;  // index of the next batch
  UniqueFd file_;
  size_t size_;  // bytes of good records in file_
  bool broken_ = false;
  const Post post_;
  const Committed committed_;
  std::mutex lock_;
  std::condition_variable wake_;
  std::vector<Append> queue_;                                // under lock_
  std::optional<std::pair<uint64_t, std::string>> trim_;     // under lock_
  bool closing_ = false;                                     // under lock_
  std::thread thread_;
};

namespace {

struct Files {
  std::vector<CommandLog::Entry> entries;
  std::string last_path;
  size_t last_size = 0;
  size_t torn_bytes = 0;
};

// Only the last file may have a torn tail; a gap between files is damage.
Result<Files> read_files(const std::string& folder) {
  Files out;
  auto files = wal_files(folder);
  for (const auto& [first, path] : files) {
    bool is_last = path == files.rbegin()->second;
    auto text = read_file(path);
    if (!text) return text.error();
    Scan scan = scan_file(*text);
    bool torn = scan.good_bytes < text->size();
    if (scan.damaged || (torn && !is_last)) return damaged(path);
    for (auto& entry : scan.entries) {
      if (!out.entries.empty() && entry.index != out.entries.back().index + 1) return damaged(path);
      out.entries.push_back(std::move(entry));
    }
    out.last_path = path;
    out.last_size = scan.good_bytes;
    out.torn_bytes = text->size() - scan.good_bytes;
  }
  return out;
}

Result<UniqueFd> open_for_append(const std::string& path, size_t size) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!fd.valid()) return errno_error("opening " + path);
  if (ftruncate(fd.get(), static_cast<off_t>(size)) != 0 || fdatasync(fd.get()) != 0)
    return errno_error("cutting " + path);
  return fd;
}

}  // namespace

Result<LocalLog::Recovered> LocalLog::open(const std::string& folder, Post post) {
  auto snapshot = read_snapshot(folder + "/snapshot");
  if (!snapshot) return snapshot.error();
  auto files = read_files(folder);
  if (!files) return files.error();
  uint64_t last = std::max(snapshot->first, files->entries.empty() ? 0 : files->entries.back().index);
  if (!files->entries.empty() && files->entries.front().index > snapshot->first + 1) return damaged(folder);
  std::string path = files->last_path.empty() ? folder + "/" + wal_name(last + 1) : files->last_path;
  auto file = open_for_append(path, files->last_size);
  if (!file) return file.error();
  if (auto synced = sync_folder(folder); !synced) return synced.error();

  Recovered out;
  out.snapshot_index = snapshot->first;
  out.snapshot = std::move(snapshot->second);
  out.torn_bytes = files->torn_bytes;
  out.log.reset(new LocalLog);
  LocalLog& log = *out.log;
  log.last_ = last;
  for (auto& entry : files->entries) {
    if (entry.index > out.snapshot_index) out.entries.push_back(entry);
    log.remember(std::move(entry));
  }
  log.writer_ = std::make_unique<Writer>(folder, last + 1, std::move(*file), files->last_size, std::move(post),
                                         [&log, alive = log.alive_](uint64_t first, std::vector<std::string> batches) {
                                           if (*alive) log.committed(first, std::move(batches));
                                         });
  return out;
}

LocalLog::~LocalLog() { *alive_ = false; }

void LocalLog::on_commit(std::function<void(const Entry&)> callback) { on_commit_ = std::move(callback); }

void LocalLog::append(std::string batch, std::function<void(Index)> callback) {
  writer_->append({std::move(batch), [alive = alive_, callback = std::move(callback)](Index index) {
                     if (*alive) callback(std::move(index));
                   }});
}

// This process alone appends, so all that is committed is known here.
void LocalLog::read_barrier(std::function<void(Index)> callback) { callback(last_); }

void LocalLog::trim(uint64_t index, std::string snapshot) { writer_->trim(index, std::move(snapshot)); }

void LocalLog::committed(uint64_t first, std::vector<std::string> batches) {
  for (size_t i = 0; i < batches.size(); ++i) {
    Entry entry{first + i, std::move(batches[i])};
    last_ = entry.index;
    remember(entry);
    if (on_commit_) on_commit_(entry);
  }
}

void LocalLog::remember(Entry entry) {
  recent_bytes_ += entry.batch.size() + sizeof(Entry);
  recent_.push_back(std::move(entry));
  while (recent_bytes_ > kRecentBytes && recent_.size() > 1) {
    recent_bytes_ -= recent_.front().batch.size() + sizeof(Entry);
    recent_.pop_front();
  }
}

std::vector<CommandLog::Entry> LocalLog::read(uint64_t from, size_t bytes) const {
  std::vector<Entry> out;
  if (recent_.empty() || from < recent_.front().index) return out;
  for (size_t i = from - recent_.front().index; i < recent_.size() && bytes > 0; ++i) {
    out.push_back(recent_[i]);
    bytes -= std::min(bytes, recent_[i].batch.size() + 1);
  }
  return out;
}

}  // namespace godwit
