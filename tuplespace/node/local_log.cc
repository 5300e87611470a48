#include "tuplespace/node/local_log.hh"

#include <algorithm>

namespace godwit {
namespace {

constexpr size_t kRecentBytes = size_t{8} << 20;  // kept in memory for followers
constexpr Journal::Options kOptions{.rotate_bytes = uint64_t{4} << 20};

Error of_directory(const Error& error) { return Error{error.code, "the directory's log: " + error.what}; }

}  // namespace

Result<LocalLog::Recovered> LocalLog::open(const std::string& folder, Post post) {
  Recovered out;
  out.log.reset(new LocalLog(std::move(post)));
  LocalLog& log = *out.log;
  auto on_snapshot = [&out](std::string_view part) -> Result<void> {
    out.snapshot += part;
    return {};
  };
  auto on_entry = [&out](uint64_t index, std::string_view batch) -> Result<void> {
    out.entries.push_back({index, std::string(batch)});
    return {};
  };
  auto opened = Journal::open(folder, kOptions, {on_snapshot, on_entry, [&log](const auto& settled) { log.on_settled(settled); }});
  if (!opened) return of_directory(opened.error());
  out.snapshot_index = opened->snapshot_at;
  out.torn_bytes = opened->torn_bytes;
  log.journal_ = std::move(opened->journal);
  log.last_ = log.journal_->durable();
  for (const auto& entry : out.entries) log.remember(entry);
  return out;
}

LocalLog::~LocalLog() {
  *alive_ = false;
  if (trimming_.joinable()) trimming_.join();
}

void LocalLog::on_commit(std::function<void(const Entry&)> callback) { on_commit_ = std::move(callback); }

void LocalLog::append(std::string batch, std::function<void(Index)> callback) {
  if (auto appended = journal_->append(batch); appended)
    pending_.push_back({std::move(batch), std::move(callback)});
  else
    post_([alive = alive_, callback = std::move(callback), error = of_directory(appended.error())] {
      if (*alive) callback(error);
    });
}

// In the journal's thread.
void LocalLog::on_settled(const Journal::Settled& settled) {
  post_([this, alive = alive_, settled] {
    for (uint64_t i = 0; i < settled.count && *alive; ++i) {
      Appended appended = std::move(pending_.front());
      pending_.pop_front();
      if (settled.outcome)
        commit(settled.first + i, std::move(appended));
      else
        appended.callback(of_directory(settled.outcome.error()));
    }
  });
}

void LocalLog::commit(uint64_t index, Appended appended) {
  Entry entry{index, std::move(appended.batch)};
  last_ = index;
  remember(entry);
  if (on_commit_) on_commit_(entry);
  appended.callback(index);
}

// This process alone appends, so all that is committed is known here.
void LocalLog::read_barrier(std::function<void(Index)> callback) { callback(last_); }

void LocalLog::trim(uint64_t index, std::string snapshot) {
  if (trimming_.joinable()) trimming_.join();
  trimming_ = std::thread([this, index, snapshot = std::move(snapshot)] {
    auto begun = journal_->begin_snapshot(index);
    if (begun && begun->add(snapshot)) (void)begun->commit();
  });
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
