// What a folder holds of a journal, read and checked. Nothing is changed but for what no reader misses: a
// snapshot that was not finished and log files that a snapshot has replaced are removed.
#pragma once
#include <functional>
#include <string>

#include "tuplespace/result.hh"

namespace godwit::journal {

struct Recovered {
  uint64_t id = 0;           // 0: no file has one yet
  uint64_t snapshot_at = 0;  // 0: none
  uint64_t last = 0;         // the last record's sequence
  std::string path;          // the log file to go on with; empty: the folder held no journal
  uint64_t size = 0;         // bytes of it that are good; 0: it has no head
  uint64_t torn_bytes = 0;   // behind them
};

using OnSnapshotRecord = std::function<Result<void>(std::string_view record)>;
using OnRecord = std::function<Result<void>(uint64_t sequence, std::string_view record)>;

Result<Recovered> recover(const std::string& folder, const OnSnapshotRecord& on_snapshot_record, const OnRecord& on_record);

/// The snapshot, and the log's records after it up to that one, which is on disk; while a Journal goes on writing others. Changes
/// nothing. No snapshot must be committed meanwhile.
Result<void> read_again(const std::string& folder, uint64_t up_to, const OnSnapshotRecord& on_snapshot_record, const OnRecord& on_record);

}  // namespace godwit::journal
