// The log that the directory is made of. Its homes: LocalLog, a journal on the community's first node; later
// etcd (NOTES: a fenced log of batches).
//
// What must stay true of every home: indexes are contiguous from 1; a batch that was committed stays
// committed, whatever is killed; on_commit hears every batch once, in order, and before the callback of
// its append. All calls and callbacks are in the loop's thread.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/result.hh"

namespace godwit {

class CommandLog {
 public:
  struct Entry {
    uint64_t index;
    std::string batch;
  };
  using Index = Result<uint64_t>;

  virtual ~CommandLog() = default;
  virtual void on_commit(std::function<void(const Entry&)> callback) = 0;
  /// The batch's index once it cannot be lost any more; or an error, and then it will never be committed.
  virtual void append(std::string batch, std::function<void(Index)> callback) = 0;
  /// An index that includes every batch committed before the call.
  virtual void read_barrier(std::function<void(Index)> callback) = 0;
  /// Batches from `from` on, at most about `bytes`; empty if there are none or `from` is trimmed.
  virtual std::vector<Entry> read(uint64_t from, size_t bytes) const = 0;
  virtual uint64_t last() const = 0;
  /// Batches up to `index` may go: `snapshot` stands for them.
  virtual void trim(uint64_t index, std::string snapshot) = 0;
};

}  // namespace godwit
