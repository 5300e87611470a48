#include "tuplespace/journal/journal.hh"

#include <signal.h>

#include "tuplespace/journal/crc32c.hh"
#include "tuplespace/journal/format.hh"
#include "tuplespace/journal/log_file.hh"
#include "tuplespace/journal/recovery.hh"

namespace godwit {

using journal::kHead;
using journal::LogFile;
using journal::RecordHead;

namespace {

constexpr size_t kPiece = size_t{64} << 10;  // records above a quarter of it are not copied

}  // namespace

// Records that are written together and have one fate.
struct Journal::Group {
  uint64_t first = 0;               // sequence
  uint64_t count = 0;
  uint64_t bytes = 0;               // of the pieces
  std::vector<std::string> pieces;  // heads and records as they come into the file

  void add(const std::string& head, std::string record);

  std::mutex lock;
  std::condition_variable changed;
  std::optional<Result<void>> outcome;  // under lock

 private:
  std::string& piece_with_room(size_t length);
};

void Journal::Group::add(const std::string& head, std::string record) {
  ++count;
  bytes += head.size() + record.size();
  if (record.size() > kPiece / 4) {
    piece_with_room(head.size()) += head;
    pieces.push_back(std::move(record));
  } else {
    std::string& piece = piece_with_room(head.size() + record.size());
    piece += head;
    piece += record;
  }
}

std::string& Journal::Group::piece_with_room(size_t length) {
  if (pieces.empty() || pieces.back().capacity() - pieces.back().size() < length) pieces.emplace_back().reserve(kPiece);
  return pieces.back();
}

Result<Journal::Opened> Journal::open(const std::string& folder, const Options& options, Listener listener) {
  auto recovered = journal::recover(folder, listener.on_snapshot_record, listener.on_record);
  if (!recovered) return recovered.error();
  auto log = LogFile::open(folder, *recovered, options.rotate_bytes, options.fill_bytes);
  if (!log) return log.error();
  std::unique_ptr<Journal> out(
      new Journal(folder, options, std::move(listener), std::move(*log), recovered->last, recovered->snapshot_at));
  return Opened{std::move(out), recovered->snapshot_at, recovered->torn_bytes};
}

Journal::Journal(std::string folder, const Options& options, Listener listener, LogFile log, uint64_t last, uint64_t snapshot_at)
    : folder_(std::move(folder)), queue_bytes_(options.queue_bytes), listener_(std::move(listener)),
      log_(std::make_unique<LogFile>(std::move(log))), id_(log_->id()), durable_(last), snapshot_at_(snapshot_at),
      gathering_(std::make_shared<Group>()), next_(last + 1) {
  start_writing();
}

// No signal is for the writing thread: that of a file too large (SIGXFSZ) is an error of write, too.
void Journal::start_writing() {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Journal::~Journal() {
  {
    std::lock_guard guard(lock_);
    ending_ = true;
  }
  work_.notify_one();
  thread_.join();
}

Result<Journal::Appended> Journal::append(std::string record) {
  std::vector<std::string> one;
  one.push_back(std::move(record));
  bool is_first;
  auto added = add(std::move(one), &is_first);
  if (added && is_first) work_.notify_one();
  return added;
}

Result<uint64_t> Journal::write(std::vector<std::string> records) {
  bool is_first;
  auto added = add(std::move(records), &is_first);
  if (!added) return added.error();
  std::unique_lock guard(lock_);
  if (!busy_ && gathering_->count > 0) {
    write_group(guard);
    if (gathering_->count > 0) work_.notify_one();
  }
  guard.unlock();
  auto durable = wait_durable(*added, kForever);
  return durable ? Result<uint64_t>(added->sequence()) : durable.error();
}

// is_first: of what is gathering.
Result<Journal::Appended> Journal::add(std::vector<std::string> records, bool* is_first) {
  std::vector<RecordHead> heads;
  for (const std::string& record : records) {
    if (record.size() > kMaxRecord) return make_error(std::errc::message_size, "appending to the journal in " + folder_);
    heads.push_back({.length = static_cast<uint32_t>(record.size()), .checksum = crc32c(record)});
  }
  std::unique_lock guard(lock_);
  room_.wait(guard, [this] { return closed_ || queued_ < queue_bytes_; });
  if (closed_) return *closed_;
  Group& group = *gathering_;
  *is_first = group.count == 0;
  if (*is_first) group.first = next_;
  for (size_t i = 0; i < records.size(); ++i) {
    heads[i].sequence = next_++;
    heads[i].place = static_cast<uint32_t>(group.count);
    queued_ += kHead + records[i].size();
    group.add(encode(heads[i], id_), std::move(records[i]));
  }
  return Appended(next_ - 1, gathering_);
}

void Journal::run() {
  for (;;) {
    std::unique_lock guard(lock_);
    work_.wait(guard, [this] { return !busy_ && (ending_ || gathering_->count > 0); });
    if (gathering_->count == 0) return;
    write_group(guard);
  }
}

// All that has gathered. With the lock, which is free meanwhile.
void Journal::write_group(std::unique_lock<std::mutex>& guard) {
  auto group = std::exchange(gathering_, std::make_shared<Group>());
  busy_ = true;
  guard.unlock();
  write(group);
  guard.lock();
  busy_ = false;
}

void Journal::write(const std::shared_ptr<Group>& group) {
  auto written = log_->write(group->first, group->pieces);
  group->pieces = {};
  if (!written) return refuse(group, written.error());
  {
    std::lock_guard guard(lock_);
    queued_ -= group->bytes;
  }
  room_.notify_all();
  durable_.store(group->first + group->count - 1, std::memory_order_release);
  settle(*group, {});
}

// What has gathered meanwhile comes after what was refused, so it is refused, too.
void Journal::refuse(const std::shared_ptr<Group>& group, const Error& error) {
  std::shared_ptr<Group> after;
  {
    std::lock_guard guard(lock_);
    after = std::exchange(gathering_, std::make_shared<Group>());
    next_ = group->first;
    queued_ = 0;
    if (log_->is_closed())
      closed_ = Error{error.code, "the journal in " + folder_ + " takes nothing more since " + error.what + " failed (" +
                                      error.code.message() + "); see to its disk, then open it anew"};
  }
  after->pieces = {};
  room_.notify_all();
  settle(*group, error);
  if (after->count > 0) settle(*after, error);
}

void Journal::settle(Group& group, const Result<void>& outcome) {
  if (listener_.on_settled) listener_.on_settled({group.first, group.count, outcome});
  {
    std::lock_guard guard(group.lock);
    group.outcome = outcome;
  }
  group.changed.notify_all();
}

Result<void> Journal::wait_durable(const Appended& appended, Deadline deadline) const {
  Group& group = *appended.group_;
  std::unique_lock guard(group.lock);
  if (!group.changed.wait_until(guard, deadline, [&] { return group.outcome.has_value(); }))
    return make_error(std::errc::timed_out, "waiting for the disk of " + folder_);
  return *group.outcome;
}

}  // namespace godwit
