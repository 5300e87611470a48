// The command log as a Journal of this host's: a batch is a record, its index the record's sequence.
#pragma once
#include <deque>
#include <memory>
#include <thread>

#include "tuplespace/journal/journal.hh"
#include "tuplespace/node/command_log.hh"

namespace godwit {

class LocalLog final : public CommandLog {
 public:
  /// Runs work in the loop's thread; Loop::post.
  using Post = std::function<void(std::function<void()>)>;

  struct Recovered {
    std::unique_ptr<LocalLog> log;
    uint64_t snapshot_index = 0;
    std::string snapshot;        // empty: none
    std::vector<Entry> entries;  // after the snapshot
    size_t torn_bytes = 0;       // cut from the tail
  };
  static Result<Recovered> open(const std::string& folder, Post post);
  ~LocalLog() override;  // what is queued is written first; no callback comes any more

  void on_commit(std::function<void(const Entry&)> callback) override;
  void append(std::string batch, std::function<void(Index)> callback) override;
  void read_barrier(std::function<void(Index)> callback) override;
  std::vector<Entry> read(uint64_t from, size_t bytes) const override;
  uint64_t last() const override { return last_; }
  /// In a thread of its own. Of one that fails the former snapshot stays, and the log is longer.
  void trim(uint64_t index, std::string snapshot) override;

 private:
  struct Appended {
    std::string batch;
    std::function<void(Index)> callback;
  };
  explicit LocalLog(Post post) : post_(std::move(post)) {}
  void on_settled(const Journal::Settled& settled);
  void commit(uint64_t index, Appended appended);
  void remember(Entry entry);

  const Post post_;
  std::function<void(const Entry&)> on_commit_;
  uint64_t last_ = 0;             // committed
  std::deque<Appended> pending_;  // in the journal, not settled
  std::deque<Entry> recent_;      // the last committed ones, contiguous
  size_t recent_bytes_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<Journal> journal_;
  std::thread trimming_;
};

}  // namespace godwit
