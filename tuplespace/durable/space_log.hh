// The log of this host's durable spaces: records go from the space ".log" (store/durability.hh) to a journal in the node's home, in
// their order. A record is an entry of the journal, its number the entry's.
//
// What must stay true: a record is removed from the segment when it is on disk, and not before; whoever is killed in between leaves
// it in both, and the next node knows it by its number. If the segment is new, or knows of less than the disk, the spaces are made
// again from the disk; else what is in the segment goes on.
//
// So that a full disk can be said to those who would change something, before they have: some room is held by a file that is
// removed when the disk is full. What is on its way goes there, and what comes is refused until the room can be held again.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "tuplespace/durable/survivors.hh"
#include "tuplespace/journal/journal.hh"
#include "tuplespace/store/durability.hh"
#include "tuplespace/store/store.hh"

namespace godwit {

class SpaceLog {
 public:
  struct Options {
    uint64_t snapshot_bytes = uint64_t{64} << 20;  // a log of this size, and of the size of what is left of it, is made anew
    uint64_t reserve_bytes = uint64_t{16} << 20;   // that are held for a full disk
  };

  /// folder: where the journal is, or will be once there is something to write.
  /// errors   those of Journal::open; not_supported: a record that this version does not know; no_space_on_device: what is on
  ///          disk does not fit into the segment.
  static Result<std::unique_ptr<SpaceLog>> open(std::string folder, const shared::Segment& segment, const Options& options);
  /// Writes what there is.
  ~SpaceLog();
  SpaceLog(const SpaceLog&) = delete;

  /// To be called, in a thread of its own, when more is on disk than before, or the log is in another state. Empty: nothing is. When this returns, the former one
  /// is not called any more.
  void on_written(std::function<void()> callback);
  /// What whoever starts the node should know of the log; empty: nothing.
  const std::string& remark() const { return remark_; }

 private:
  SpaceLog(std::string folder, const shared::Segment& segment, const Options& options)
      : folder_(std::move(folder)), segment_(segment), options_(options) {}
  Result<void> recover();
  Result<void> open_journal(Survivors& survivors);
  Result<void> restore(store::Desk& desk, Survivors& survivors);

  void run(const std::stop_token& stop);
  Result<void> begin_journal();
  void wait_for_the_dead(store::Transaction& batch);
  bool write_what_is_there(store::Store& records, store::Transaction& batch);
  struct Taken {
    std::vector<std::string> records;  // that are not on disk yet
    uint64_t last = 0;                 // number; 0: there were none
    size_t many = 0, bytes = 0;        // of all
    bool is_broken = false;            // one is missing behind the last
  };
  Taken take_records(store::Store& records, store::Transaction& batch);
  void add_unknown_spaces(std::string& record);
  void refuse_after(const Error& error);
  void look_for_room();
  bool hold_reserve();
  void release_reserve();
  void set_state(store::LogState state);
  void tell();
  void written(const Taken& taken);

  void snapshot_if_due();
  Result<void> make_snapshot(uint64_t at);

  const std::string folder_;
  const shared::Segment segment_;
  const Options options_;
  std::unique_ptr<Journal> journal_;  // null: there is nothing on disk yet
  std::string remark_;
  std::set<uint64_t> known_;          // spaces that the log has a name for
  size_t expected_ = 0;               // records, that will soon be there together
  std::chrono::nanoseconds sync_time_{};  // of the last write
  store::LogState state_ = store::LogState::kNotBegun;
  uint64_t since_snapshot_ = 0;       // bytes
  std::atomic<uint64_t> snapshot_size_ = 0;  // bytes, or about
  std::chrono::steady_clock::time_point snapshot_tried_{};
  std::mutex lock_;
  std::function<void()> on_written_;  // under lock_
  std::atomic<bool> snapshots_ = false;
  std::jthread snapshotter_;
  std::jthread thread_;
};

}  // namespace godwit
