// The command log as files of one folder: wal.FIRST with records, and a snapshot.
//
//   record:   magic u32, length u32 of what follows the checksum, crc32c u32, first index u64, count u32,
//             then `count` times: length u32, batch             (little endian, docs/protocol.md)
//   snapshot: magic u32, crc32c u32, index u64, state
//
// What must stay true: a record is written and fdatasynced before any of its batches is committed, and
// only one record is unsynced at a time; so after a crash at most the last record is torn, and open()
// cuts it. A bad record with a good one behind it is no torn tail but damage: open() refuses, since
// cutting there would lose what was acknowledged.
#pragma once
#include <deque>
#include <memory>
#include <optional>

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
  void trim(uint64_t index, std::string snapshot) override;

 private:
  class Writer;
  LocalLog() = default;
  void committed(uint64_t first, std::vector<std::string> batches);
  void remember(Entry entry);

  std::function<void(const Entry&)> on_commit_;
  uint64_t last_ = 0;         // committed
  std::deque<Entry> recent_;  // the last committed ones, contiguous
  size_t recent_bytes_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<Writer> writer_;
};

}  // namespace godwit
