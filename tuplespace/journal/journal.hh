// A write-ahead log: records, each with a sequence number, in files of one folder.
//
//     auto opened = Journal::open(folder, {}, {on_snapshot_record, on_record, on_settled});
//     auto appended = opened->journal->append("a record");
//     if (auto durable = opened->journal->wait_durable(*appended, kForever); !durable) ...  // refused
//
// What must stay true, whatever is killed and when: a record that was acknowledged is found again, in its
// place; one that was refused is not; and nothing else is. A record that was neither (its process was killed
// first) is found or not; if it is, so is everything that was appended before it. Only of what was refused
// because a sync failed the disk may have kept something, which shows if the host dies right then.
//
// A folder is one journal's, and one Journal's at a time: to lock it is the caller's business. Files are of
// mode 0600, descriptors are closed on exec. docs/journal.md has the format.
//
// After fork the child owns nothing of a Journal: its writing thread is not there. It may only exec or _exit.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/result.hh"
#include "tuplespace/wait.hh"

namespace godwit {

namespace journal {
class LogFile;
}

class Journal {
 public:
  static constexpr uint64_t kMaxRecord = UINT32_MAX;  // bytes

  struct Options {
    uint64_t rotate_bytes = uint64_t{64} << 20;  // a log file of this size is followed by a new one
    uint64_t queue_bytes = uint64_t{64} << 20;   // append waits while so much is queued or being written
    uint64_t fill_bytes = 0;                        // zeros that are written behind the records at a time, to sync sooner
  };

  /// What has become of records `first` to `first + count - 1`.
  struct Settled {
    uint64_t first;
    uint64_t count;        // > 0
    Result<void> outcome;  // they are on disk, or they are refused: why
  };

  /// The records that it hears are there until it returns.
  struct Listener {
    /// Both are asked for. While opening: the snapshot's records in the order in which they were added, then the
    /// log's records after it. An error ends open with that error. If open fails, what was heard before is good
    /// but is not all.
    std::function<Result<void>(std::string_view record)> on_snapshot_record;
    std::function<Result<void>(uint64_t sequence, std::string_view record)> on_record;
    /// Then, in the writing thread: every record's fate, once, in the order of append, before who waits for it
    /// is told. Must not append, which may wait for this very thread, nor destroy the Journal. Empty: nobody asks.
    std::function<void(const Settled&)> on_settled;
  };

  struct Opened {
    std::unique_ptr<Journal> journal;
    uint64_t snapshot_at;  // the last record that the snapshot stands for; 0: there is none
    uint64_t torn_bytes;   // cut from the end: of records that were never acknowledged
  };

  /// Recovers what the folder holds, or begins a journal in it. All that was heard is on disk when this returns.
  ///
  /// errors  the folder does not exist or cannot be read or written; not_supported: a version of tomorrow;
  ///         io_error: a record is wrong, and was on disk before others were written (what() says the file and the
  ///         byte), or a file is missing. The files are as before then.
  static Result<Opened> open(const std::string& folder, const Options& options, Listener listener);

  /// Writes what is queued first. No other call may be under way, nor any Snapshot exist.
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

 private:
  struct Group;

 public:
  /// A record on its way. Copies are of the same one.
  class Appended {
   public:
    /// One more than that of the record before. The numbers of refused records are given again.
    uint64_t sequence() const { return sequence_; }

   private:
    friend class Journal;
    Appended(uint64_t sequence, std::shared_ptr<Group> group) : sequence_(sequence), group_(std::move(group)) {}
    uint64_t sequence_;
    std::shared_ptr<Group> group_;
  };

  /// Queues a record. All that has gathered while the disk was busy is written at once and synced once.
  ///
  /// waits    while options.queue_bytes are queued: so at most that and one record are in memory, besides those
  ///          of the threads that wait.
  /// errors   message_size: longer than kMaxRecord; or the Journal is closed: a sync has failed before, and
  ///          nobody can say what is on disk. Only opening anew helps then. Nothing is queued.
  /// threads  any, concurrently; records of one thread keep their order.
  Result<Appended> append(std::string record);
  /// Several, one behind the other, which have one fate: they are on disk when this returns, or refused as wait_durable says. Written
  /// by the calling thread if nothing else is being written, else by the Journal's. There is at least one.
  /// returns  the sequence of the last.
  Result<uint64_t> write(std::vector<std::string> records);

  /// Until the record is on disk.
  ///
  /// errors   timed_out: it is still on its way; or it is refused: the disk is full (no_space_on_device,
  ///          EDQUOT, file_too_large) or bad. All records that were on their way then are, and the file has
  ///          nothing of them any more. The next ones are tried again, unless the Journal is closed.
  /// threads  any, concurrently; holds no lock of the Journal while waiting.
  Result<void> wait_durable(const Appended& appended, Deadline deadline) const;

  /// The last record that is on disk; so are all before. For a record that may have been refused ask
  /// wait_durable: its number is another one's then. Any thread, never waits.
  uint64_t durable() const { return durable_.load(std::memory_order_acquire); }

  /// A state that stands for the first records of the log, on its way to disk. One thread at a time.
  /// Destroyed without a commit, or after a failed one, it leaves all as it was. It is written by the thread that
  /// calls; that of a file too large (SIGXFSZ) gets its signal.
  class Snapshot {
   public:
    Snapshot(Snapshot&&) noexcept = default;
    ~Snapshot();

    /// Writes a record behind the others, at most kMaxRecord bytes. After an error nothing but destroying it is left.
    Result<void> add(std::string_view record);
    /// Puts it in the place of the former one, on disk, and then removes the log files that it makes needless.
    /// errors  the former one stands; or, if only the last sync failed, either does: both are good.
    Result<void> commit();

   private:
    friend class Journal;
    Snapshot(Journal& journal, uint64_t at, UniqueFd file) : journal_(&journal), at_(at), file_(std::move(file)) {}
    Result<void> put(uint32_t mark, std::string_view record);
    Result<void> flush();
    Result<void> write(std::string_view bytes);

    Journal* journal_;
    uint64_t at_;
    uint64_t records_ = 0;
    std::string buffer_;
    UniqueFd file_;  // not valid: committed, or moved from
  };

  /// Begins a snapshot that stands for all records up to `at`: to be made of a state that has all of them, and
  /// none after. Appends go on meanwhile.
  ///
  /// at       of a durable record, and not before the former snapshot's.
  /// errors   file_exists: another one is being made; or what creating a file can fail with.
  /// threads  any.
  Result<Snapshot> begin_snapshot(uint64_t at);

 private:
  Journal(std::string folder, const Options& options, Listener listener, journal::LogFile log, uint64_t last,
          uint64_t snapshot_at);
  void run();
  Result<Appended> add(std::vector<std::string> records, bool* is_first);
  void write_group(std::unique_lock<std::mutex>& guard);
  void write(const std::shared_ptr<Group>& group);
  void refuse(const std::shared_ptr<Group>& group, const Error& error);
  void settle(Group& group, const Result<void>& outcome);
  void start_writing();

  const std::string folder_;
  const uint64_t queue_bytes_;
  const Listener listener_;
  const std::unique_ptr<journal::LogFile> log_;  // the writing thread's
  const uint64_t id_;
  std::atomic<uint64_t> durable_;
  std::atomic<uint64_t> snapshot_at_;

  std::mutex lock_;
  std::condition_variable work_;        // for the writing thread
  std::condition_variable room_;        // in the queue
  std::shared_ptr<Group> gathering_;    // under lock_
  uint64_t next_;                       // under lock_: sequence of the next record
  bool busy_ = false;                   // under lock_: a group is being written
  uint64_t queued_ = 0;                 // under lock_: bytes, of what is gathering and what is being written
  std::optional<Error> closed_;         // under lock_
  bool ending_ = false;                 // under lock_
  std::thread thread_;
};

}  // namespace godwit
