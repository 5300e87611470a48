#include "tuplespace/durable/space_log.hh"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>

#include "tuplespace/fault.hh"
#include "tuplespace/journal/format.hh"
#include "tuplespace/journal/recovery.hh"
#include "tuplespace/posix/file.hh"
#include "tuplespace/store/durability.hh"
#include "tuplespace/store/errors.hh"
#include "tuplespace/store/reap.hh"
#include "tuplespace/store/sleep.hh"

namespace godwit {
namespace {

using Clock = std::chrono::steady_clock;
using store::Change;
using store::Desk;
using store::LogState;

constexpr size_t kBatchBytes = size_t{8} << 20;  // of records that are written at once, unless one alone has more
constexpr uint64_t kGrace = 3'600'000'000'000;  // ns for which a tuple whose time is over is kept: the clock may have been set wrongly
constexpr uint64_t kRotate = uint64_t{16} << 20;
constexpr uint64_t kFill = uint64_t{1} << 20;
constexpr size_t kRestored = 256;                // tuples in a transaction
constexpr size_t kSnapshotRecord = size_t{256} << 10;
constexpr auto kPatience = std::chrono::microseconds(500);  // with records that are expected and do not come, at most
constexpr auto kBetweenTries = std::chrono::seconds(5);
constexpr auto kPause = std::chrono::milliseconds(200);  // before a full disk is tried again

bool is_for_want_of_room(const Error& error) {
  return error.code == std::errc::no_space_on_device || error.code.value() == EDQUOT || error.code == std::errc::file_too_large;
}

uint64_t size_of(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
}
bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

Result<void> for_each(std::string_view record, const std::function<void(const Change&)>& f) {
  if (store::for_each_change(record, f)) return {};
  return make_error(std::errc::not_supported, "a record of the log of durable spaces is of another version of Godwit; use that");
}

// Calls f with all changes on disk up to that entry.
Result<void> for_each_on_disk(const std::string& folder, uint64_t up_to, const std::function<void(const Change&)>& f) {
  return journal::read_again(folder, up_to, [&](std::string_view record) { return for_each(record, f); },
                             [&](uint64_t, std::string_view record) { return for_each(record, f); });
}

// ("record", BYTES)
const PatternView kRecords[] = {PatternView::of(FieldView::string("record")), PatternView::of(Type::kBytes)};
const TemplateView kAnyRecord(kRecords);

bool is_own(const Survivors::Space& space) { return is_own_space(space.name); }

}  // namespace

Result<std::unique_ptr<SpaceLog>> SpaceLog::open(std::string folder, const shared::Segment& segment, const Options& options) {
  std::unique_ptr<SpaceLog> log(new SpaceLog(std::move(folder), segment, options));
  if (auto recovered = log->recover(); !recovered) return recovered.error();
  log->thread_ = std::jthread([&log = *log](const std::stop_token& stop) { log.run(stop); });
  return log;
}

SpaceLog::~SpaceLog() {
  thread_ = {};
  snapshotter_ = {};
  release_reserve();
}

void SpaceLog::on_written(std::function<void()> callback) {
  std::lock_guard guard(lock_);
  on_written_ = std::move(callback);
}

// ---- what is there at the start

Result<void> SpaceLog::recover() {
  auto desk = Desk::of(segment_);
  if (!desk) return desk.error();
  Survivors survivors;
  if (exists(folder_))
    if (auto opened = open_journal(survivors); !opened) return opened;
  store::reap(**desk);
  uint64_t last = journal_ ? journal_->durable() : 0, written = segment_.header().log_written.load();
  if (!store::has_log(**desk) || written > last || segment_.header().log_last < last) {
    if (written > last) remark_ = "the log of durable spaces ends at record " + std::to_string(last) + " of " + std::to_string(written) + "; they are as it has them";
    store::end_log(**desk);
    store::drop_durable(**desk);
    (void)store::forget_space(**desk, store::kLogSpace);
    if (auto restored = restore(**desk, survivors); !restored) return restored;
    uint64_t last_age = 0;
    for (const auto& [id, space] : survivors.spaces()) last_age = std::max(last_age, space.last_age);
    if (auto begun = store::begin_log(**desk, last, last_age); !begun) return begun;
  }
  for (const auto& [id, space] : survivors.spaces()) known_.insert(id);
  if (journal_) set_state(hold_reserve() ? LogState::kFine : LogState::kFull);
  else set_state(LogState::kNotBegun);
  store::wrote(**desk, last);
  return {};
}

Result<void> SpaceLog::open_journal(Survivors& survivors) {
  auto note = [&](std::string_view record) { return for_each(record, [&](const Change& change) { survivors.note(change); }); };
  auto opened = Journal::open(folder_, {.rotate_bytes = kRotate, .fill_bytes = kFill}, {note, [&](uint64_t, std::string_view record) { return note(record); }, {}});
  if (!opened) return Error{opened.error().code, "the log of durable spaces: " + opened.error().what};
  if (opened->torn_bytes) remark_ = "the log of durable spaces had no whole record in its last " + std::to_string(opened->torn_bytes) + " bytes; they were cut off";
  journal_ = std::move(opened->journal);
  for (const auto& [first, path] : journal::log_files(folder_)) since_snapshot_ += size_of(path);
  snapshot_size_ = size_of(journal::snapshot_path(folder_));
  return {};
}

// What is on disk comes into the segment.
Result<void> SpaceLog::restore(Desk& desk, Survivors& survivors) {
  std::map<uint64_t, store::Store> stores;
  for (const auto& [id, space] : survivors.spaces()) {
    if (auto made = store::make_again(desk, space.name, space.options); !made) return made;
    auto store = store::Store::open(segment_, space.name);
    if (!store) return store.error();
    stores.emplace(id, std::move(*store));
  }
  store::Transaction* batch = store::begin_transaction(desk);
  if (!batch) return store::segment_full();
  Result<void> done;
  size_t many = 0;
  auto restore_one = [&](const Change& change) {
    if (!done || !survivors.keeps(change)) return;
    store::Lifetime lifetime{change.age, change.due ? store::monotonic_of(change.due) : 0, true};
    done = stores.at(change.space).out_within(*batch, store::fields_of(change.text).view(), lifetime);
    if (done && ++many % kRestored == 0) done = store::Store::commit(segment_, *batch);
  };
  if (journal_)
    if (auto read = for_each_on_disk(folder_, journal_->durable(), restore_one); !read) return read;
  if (done) done = store::Store::commit(segment_, *batch);
  store::end_transaction(desk, *desk.bench, *batch);
  for (const auto& [id, space] : survivors.spaces())
    if (done) done = store::keep_from_now_on(desk, space.name, is_own(space) ? store::Keeps::kWithAll : store::Keeps::kAll, id, space.last_age);
  return done;
}

// ---- writing

void SpaceLog::run(const std::stop_token& stop) {
  sigset_t all;  // none is for this thread; that of a file too large (SIGXFSZ) is an error of write, too
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  auto desk = Desk::of(segment_);
  auto records = store::Store::open(segment_, store::kLogSpace);
  store::Transaction* batch = desk ? store::begin_transaction(**desk) : nullptr;
  if (!batch || !records) return set_state(LogState::kFailed);
  Wait wait(stop);
  auto is_full = [&] { return state_ == LogState::kFull || state_ == LogState::kUsedUp; };
  while (!stop.stop_requested() && state_ != LogState::kFailed) {
    wait.deadline = is_full() ? Clock::now() + kPause : kForever;
    (void)records->rd({&kAnyRecord, 1}, &wait, [](TupleView) { return true; });
    bool done = write_what_is_there(*records, *batch);
    if (!done && state_ == LogState::kUsedUp) std::this_thread::sleep_for(kPause);
    if (done && is_full()) look_for_room();
    snapshot_if_due();
  }
  if (state_ != LogState::kFailed) write_what_is_there(*records, *batch);
}

// All that there was is written.
void SpaceLog::look_for_room() { set_state(hold_reserve() ? LogState::kFine : LogState::kFull); }

// The folder, with the first record.
Result<void> SpaceLog::begin_journal() {
  if (journal_) return {};
  Survivors none;
  if (mkdir(folder_.c_str(), 0700) != 0 && errno != EEXIST) return errno_error("creating " + folder_);
  if (auto synced = sync_folder(std::filesystem::path(folder_).parent_path()); !synced) return synced;
  if (auto opened = open_journal(none); !opened) return opened;
  return hold_reserve() ? Result<void>() : make_error(std::errc::no_space_on_device, "holding room in " + folder_);
}

// All records that there are go to disk together. They are removed when they are there.
bool SpaceLog::write_what_is_there(store::Store& records, store::Transaction& batch) {
  auto known = known_;
  auto taken = take_records(records, batch);
  if (taken.is_broken) return known_ = std::move(known), wait_for_the_dead(batch), true;
  auto done = taken.records.empty() ? Result<void>() : begin_journal();
  if (done && !taken.records.empty()) {
    auto began = Clock::now();
    auto last = journal_->write(std::move(taken.records));
    sync_time_ = Clock::now() - began;
    if (!last) done = last.error();
    else if (*last != taken.last) done = make_error(std::errc::io_error, "the log of durable spaces and the segment disagree");
  }
  GODWIT_FAULT_POINT("durable.written");
  if (done && taken.last) {
    written(taken);
    GODWIT_FAULT_POINT("durable.said");
    if (store::Store::commit(segment_, batch)) return true;
  }
  if (auto desk = Desk::of(segment_)) (void)store::conclude(**desk, batch);
  if (done) return true;
  known_ = std::move(known);
  refuse_after(done.error());
  return false;
}

// A node before us has died with records in hand, and they are not back yet.
void SpaceLog::wait_for_the_dead(store::Transaction& batch) {
  auto desk = Desk::of(segment_);
  if (!desk) return;
  (void)store::conclude(**desk, batch);
  store::reap(**desk);
  std::this_thread::sleep_for(kPause);
}

// Those that are there, and those of whom the last ones came from: who was just told that his is on disk will soon have another,
// and a sync costs as much for one as for many.
SpaceLog::Taken SpaceLog::take_records(store::Store& records, store::Transaction& batch) {
  Taken taken;
  std::string record;
  store::Lifetime lifetime;
  auto take = [&] {
    auto got = records.inp_within(batch, {&kAnyRecord, 1}, [&](TupleView fields) { return record = fields[1].text, true; }, &lifetime);
    if (!got || !*got) return false;
    uint64_t expected = taken.last ? taken.last + 1 : journal_ ? journal_->durable() + 1 : 1;
    if (taken.is_broken = lifetime.age > expected; taken.is_broken) return false;
    taken.last = lifetime.age;
    taken.bytes += record.size();
    ++taken.many;
    if (journal_ && taken.last <= journal_->durable()) return true;  // it is on disk already
    add_unknown_spaces(record);
    taken.records.push_back(std::move(record));
    return true;
  };
  while (taken.bytes < kBatchBytes && take()) continue;
  auto patience = std::min<std::chrono::nanoseconds>(sync_time_ / 2, kPatience);
  for (auto until = Clock::now() + patience; taken.many && !taken.is_broken && taken.many < expected_ && taken.bytes < kBatchBytes && Clock::now() < until;) {
    if (take()) until = Clock::now() + patience;
    else std::this_thread::yield();
  }
  return taken;
}

// Who has made a space may have been killed before he recorded that; and then somebody puts a tuple.
void SpaceLog::add_unknown_spaces(std::string& record) {
  store::Record before;
  auto desk = Desk::of(segment_);
  (void)store::for_each_change(record, [&](const Change& change) {
    if (change.kind == Change::kDrop) known_.erase(change.space);
    if (change.kind == Change::kCreate) known_.insert(change.space);
    if (change.kind != Change::kPut || known_.contains(change.space) || !desk) return;
    auto space = store::find_durable(**desk, change.space);
    if (!space) return;  // dropped since
    before.create(change.space, space->name, space->options);
    known_.insert(change.space);
  });
  if (before.size()) record = before.take_bytes() + record;
}

// Without room the reserve is given up; and if that was before, nothing more can be done.
void SpaceLog::refuse_after(const Error& error) {
  if (!is_for_want_of_room(error)) return set_state(LogState::kFailed);
  bool had_reserve = exists(folder_ + "/reserve");
  release_reserve();
  set_state(had_reserve ? LogState::kFull : LogState::kUsedUp);
}

// What is not there is not tried: it would be missing to others meanwhile.
bool SpaceLog::hold_reserve() {
  std::string path = folder_ + "/reserve";
  struct statvfs disk;
  uint64_t room = statvfs(folder_.c_str(), &disk) == 0 ? uint64_t{disk.f_bavail} * disk.f_frsize : 0;
  if (!exists(path) && room < options_.reserve_bytes + kFill) return false;
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (file.valid() && posix_fallocate(file.get(), 0, static_cast<off_t>(options_.reserve_bytes)) == 0) return true;
  release_reserve();
  return false;
}

void SpaceLog::release_reserve() { unlink((folder_ + "/reserve").c_str()); }

void SpaceLog::set_state(LogState state) {
  if (state_ == state && state != LogState::kNotBegun) return;
  state_ = state;
  if (auto desk = Desk::of(segment_)) store::set_log_state(**desk, state);
  tell();
}

void SpaceLog::tell() {
  std::lock_guard guard(lock_);
  if (on_written_) on_written_();
}

void SpaceLog::written(const Taken& taken) {
  since_snapshot_ += taken.bytes;
  if (state_ == LogState::kNotBegun) set_state(LogState::kFine);
  if (auto desk = Desk::of(segment_)) {
    expected_ = taken.many + store::records_there(**desk);
    store::wrote(**desk, taken.last);
  }
  tell();
}

// ---- snapshots

// On a full disk as soon as it frees a file.
void SpaceLog::snapshot_if_due() {
  bool frees = state_ == LogState::kFull && Clock::now() - snapshot_tried_ > kBetweenTries && journal::log_files(folder_).size() > 1;
  uint64_t enough = frees ? 1 : std::max(options_.snapshot_bytes, snapshot_size_.load());
  if (!journal_ || snapshots_ || since_snapshot_ < enough) return;
  snapshots_ = true;
  snapshot_tried_ = Clock::now();
  since_snapshot_ = 0;
  uint64_t at = journal_->durable();
  snapshotter_ = std::jthread([this, at] {
    (void)make_snapshot(at);  // else the log is longer, and it is tried again
    snapshots_ = false;
  });
}

Result<void> SpaceLog::make_snapshot(uint64_t at) {
  Survivors survivors;
  if (auto read = for_each_on_disk(folder_, at, [&](const Change& change) { survivors.note(change); }); !read) return read;
  auto snapshot = journal_->begin_snapshot(at);
  if (!snapshot) return snapshot.error();
  store::Record record;
  Result<void> done;
  uint64_t bytes = 0, now = store::real_time_of(shared::monotonic_ns());
  auto flush = [&] {
    bytes += record.size();
    done = snapshot->add(record.take_bytes());
    record = {};
  };
  for (const auto& [id, space] : survivors.spaces()) record.create(id, space.name, space.options);
  auto read = for_each_on_disk(folder_, at, [&](const Change& change) {
    bool is_over = change.due && change.due + kGrace < now;
    if (!done || !survivors.keeps(change) || is_over) return;
    record.put_until(change.space, change.age, change.due, change.text);
    if (record.size() >= kSnapshotRecord) flush();
  });
  if (read && done) flush();
  if (!read || !done) return read ? done : read;
  GODWIT_FAULT_POINT("durable.snapshot");
  snapshot_size_ = bytes;
  return snapshot->commit();
}

}  // namespace godwit
