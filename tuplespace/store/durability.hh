// Durable spaces: what is changed in them is on disk before it is acknowledged.
//
// A transaction that changes a durable space puts a record of that (record.hh) into the space ".log", at the same moment; each
// operation on a durable space is a transaction. The node takes the records in order, writes them to its log, and says how far
// it has come; an operation returns when that is as far as what it has done or seen. So the order of the log is that of what has
// happened; who is killed has recorded what he did, or did nothing; and a store call of another space costs nothing of this.
//
// A tuple is logged (kLogged) if the log has it: those of durable spaces are, and of those that keep with them (Keeps::kWithAll)
// what was put together with them. That a logged tuple is taken is recorded.
#pragma once
#include <optional>
#include <stop_token>
#include <string_view>
#include <vector>

#include "tuplespace/result.hh"
#include "tuplespace/store/record.hh"
#include "tuplespace/store/root.hh"

namespace godwit::store {

inline constexpr std::string_view kLogSpace = ".log";

enum class LogState : uint32_t {
  kFine = 0,
  kNotBegun = 1,  // there is nothing on disk, and nobody knows whether there can be
  kFull = 2,      // puts are refused, and takes go into the reserve
  kUsedUp = 3,    // all changes are refused
  kFailed = 4,    // nobody knows what is on disk
};

// --- who changes spaces ---

inline bool is_log(const Desk& desk, const Root& root) { return desk.self.segment.offset_of(&root) == desk.header().log_space; }
/// The stripe of the records.
Range log_range(Desk& desk);
/// A record in the first hand, for that stripe. False: no memory.
bool write_record(Desk& desk, const Range& log, std::string_view bytes);
/// Why nothing can be recorded: no_space_on_device, io_error. On a full disk what only takes still can, as long as the reserve lasts.
std::optional<Error> log_refuses(const Desk& desk, bool puts);
/// That nobody knows what is on disk; nullopt: it is known.
std::optional<Error> log_failure(const Desk& desk);
/// Waits while more is on its way to disk than should be.
void await_log_room(Desk& desk);
/// Until the disk has what the thread's last operation has recorded (desk.unwritten) and, with `all`, what anybody has. Of a desk
/// that does not wait, desk.unwritten says it.
/// errors  io_error: the log has failed, and nobody can say what of it is on disk.
Result<void> await_disk(Desk& desk, bool all);
/// The thread's transaction for such operations, with nothing in it. null: no memory.
Transaction* own_transaction(Desk& desk);
/// Before a durable space is made: whether the node can write its log.
Result<void> want_log(Desk& desk);
/// That a space was made or dropped. Waits for the disk.
Result<void> record_space(Desk& desk, const Root& root);
Result<void> record_drop(Desk& desk, uint64_t space);

// --- the node ---

/// From now on records can be made, the next with the number after `last`; up to there they are on disk. The spaces of the log are
/// in the segment. last_age: no logged tuple ever had a greater one. errors: no_space_on_device.
Result<void> begin_log(Desk& desk, uint64_t last, uint64_t last_age);
/// Whether it was called for this segment, and end_log not since. Until then nobody uses its spaces.
inline bool has_log(const shared::Header& header) { return __atomic_load_n(&header.log_space, __ATOMIC_ACQUIRE) != 0; }
inline bool has_log(const Desk& desk) { return has_log(desk.header()); }
void end_log(Desk& desk);
/// How many records there are.
uint64_t records_there(Desk& desk);
/// Records up to that number are on disk.
void wrote(Desk& desk, uint64_t last);
/// From now on that is so.
void set_log_state(Desk& desk, LogState state);

/// A space that is recorded, as it is by now.
struct DurableSpace {
  std::string name;
  SpaceOptions options;
};
std::optional<DurableSpace> find_durable(Desk& desk, uint64_t id);
/// That no other space has had.
uint64_t new_id();
/// Makes the space again that the log has, empty, with what is older than anything new. Its changes are not recorded until
/// keep_from_now_on. In the place of one that has its name.
Result<void> make_again(Desk& desk, std::string_view name, const SpaceOptions& options);
/// last_age: nothing new is older.
Result<void> keep_from_now_on(Desk& desk, std::string_view name, Keeps keeps, uint64_t id, uint64_t last_age);
/// Drops those that are recorded.
void drop_durable(Desk& desk);

}  // namespace godwit::store
