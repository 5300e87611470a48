#include "tuplespace/store/durability.hh"

#include <sys/random.h>

#include <algorithm>

#include "tuplespace/shared/futex.hh"
#include "tuplespace/store/errors.hh"
#include "tuplespace/store/sleep.hh"
#include "tuplespace/store/spaces_table.hh"
#include "tuplespace/store/store_work.hh"
#include "tuplespace/store/transactions.hh"

namespace godwit::store {
namespace {

constexpr uint64_t kMostUnwritten = 8 << 20;  // bytes of records, beyond which who changes something waits

// ("record", BYTES): all are of one stripe.
constexpr std::string_view kRecord = "record";

LogState state_of(const Desk& desk) { return static_cast<LogState>(desk.header().log_state.load()); }
uint64_t last_record(const Desk& desk) { return __atomic_load_n(&desk.header().log_last, __ATOMIC_ACQUIRE); }

// Sleeps while there are no more on disk than `written`.
void sleep_on_log(Desk& desk, uint64_t written) {
  shared::Header& header = desk.header();
  uint32_t bell = header.log_bell.load();
  if (header.log_written.load() == written) sleep_on(header.log_bell, bell, kForever, kTick);
}

void ring_log(Desk& desk) {
  desk.header().log_bell.fetch_add(1);
  shared::wake_all(desk.header().log_bell);
}

Root* find_root(Desk& desk, std::string_view name) {
  auto opened = open_space(desk, name);
  return opened ? opened->root : nullptr;
}

Result<void> record(Desk& desk, Record& made, bool waits) {
  Transaction* own = own_transaction(desk);
  if (!own) return segment_full();
  if (auto no = commit_record(desk, *own, made.take_bytes())) return *no;
  return waits ? await_disk(desk, false) : Result<void>();
}

}  // namespace

Range log_range(Desk& desk) {
  FieldView first[] = {FieldView::string(kRecord)};
  shared::Offset space = __atomic_load_n(&desk.header().log_space, __ATOMIC_ACQUIRE);
  expect(space != 0);
  Root& root = *desk.self.segment.at<Root>(space);
  return {&root, stripe_of(root, TupleView(first))};
}

bool write_record(Desk& desk, const Range& log, std::string_view bytes) {
  FieldView fields[] = {FieldView::string(kRecord), FieldView::bytes(bytes)};
  uint64_t length = encoded_size(fields);
  return length <= kMaxPayload && write_tuple(desk, *log.root, log.stripe, fields, length);
}

std::optional<Error> log_refuses(const Desk& desk, bool puts) {
  LogState state = state_of(desk);
  if (!has_log(desk)) return make_error(std::errc::no_such_device, "the node has no log of durable spaces; start it with godwit node");
  if (auto failed = log_failure(desk)) return failed;
  if (state != LogState::kUsedUp && (state != LogState::kFull || !puts)) return std::nullopt;
  return make_error(std::errc::no_space_on_device, "the log of durable spaces finds no room; make some on the disk of the node's home");
}

std::optional<Error> log_failure(const Desk& desk) {
  if (state_of(desk) != LogState::kFailed) return std::nullopt;
  return make_error(std::errc::io_error, "the log of durable spaces cannot be written any more; see to the disk of the node's home, then restart the node");
}

void await_log_room(Desk& desk) {
  if (!desk.waits_for_disk || !has_log(desk)) return;
  Range log = log_range(desk);
  for (;;) {
    uint64_t written = desk.header().log_written.load();
    if (__atomic_load_n(&log.root->stripes[log.stripe].bytes, __ATOMIC_RELAXED) <= kMostUnwritten || log_refuses(desk, false)) return;
    sleep_on_log(desk, written);
  }
}

Result<void> await_disk(Desk& desk, bool all) {
  if (all) desk.unwritten = std::max(desk.unwritten, last_record(desk));
  if (!desk.waits_for_disk) return {};
  uint64_t number = std::exchange(desk.unwritten, 0);
  for (uint64_t written; (written = desk.header().log_written.load()) < number; sleep_on_log(desk, written))
    if (auto failed = log_failure(desk)) return *failed;
  return {};
}

Transaction* own_transaction(Desk& desk) {
  if (!desk.own) desk.own = begin_transaction(desk);
  else if ((desk.own->puts || desk.own->taken || desk.own->progress != Progress::kOpen) && !conclude(desk, *desk.own)) return nullptr;
  return desk.own;
}

// The node makes its log when there is something to write: so the first space is made when that is known to go well.
Result<void> want_log(Desk& desk) {
  if (state_of(desk) == LogState::kNotBegun && has_log(desk)) {
    Record nothing;
    if (auto recorded = record(desk, nothing, false); !recorded) return recorded;
    while (state_of(desk) == LogState::kNotBegun) sleep_on_log(desk, desk.header().log_written.load());
  }
  if (auto no = log_refuses(desk, true)) return *no;
  return {};
}

Result<void> record_space(Desk& desk, const Root& root) {
  Record made;
  made.create(root.id, name_of(root), {root.capacity, root.blocks_when_full != 0, true});
  return record(desk, made, true);
}

Result<void> record_drop(Desk& desk, uint64_t space) {
  Record made;
  made.drop(space);
  return record(desk, made, true);
}

Result<void> begin_log(Desk& desk, uint64_t last, uint64_t last_age) {
  shared::Header& header = desk.header();
  if (Root* root = find_root(desk, kLogSpace); !root) {
    auto made = create_space(desk, kLogSpace, {});
    if (!made) return made.error();
    made->root->born = 0;  // records have their numbers for ages
  }
  header.log_last = last;
  header.log_age = last_age;
  header.log_written = last;
  __atomic_store_n(&header.log_space, desk.self.segment.offset_of(find_root(desk, kLogSpace)), __ATOMIC_RELEASE);
  ring_log(desk);
  return {};
}

void end_log(Desk& desk) { __atomic_store_n(&desk.header().log_space, shared::Offset{0}, __ATOMIC_RELEASE); }

uint64_t records_there(Desk& desk) {
  Range log = log_range(desk);
  return __atomic_load_n(&log.root->stripes[log.stripe].tuples, __ATOMIC_RELAXED);
}

void wrote(Desk& desk, uint64_t last) {
  if (desk.header().log_written.load() >= last) return;
  desk.header().log_written = last;
  ring_log(desk);
}

void set_log_state(Desk& desk, LogState state) {
  desk.header().log_state = static_cast<uint32_t>(state);
  ring_log(desk);
}

std::optional<DurableSpace> find_durable(Desk& desk, uint64_t id) {
  std::optional<DurableSpace> found;
  for_each_root(desk, [&](const Root& root) {
    RootState state = root.state.load();
    if (root.keeps != Keeps::kNothing && root.id == id && (state == RootState::kLive || state == RootState::kDamaged))
      found = DurableSpace{std::string(name_of(root)), {root.capacity, root.blocks_when_full != 0, true}};
  });
  return found;
}

Result<void> make_again(Desk& desk, std::string_view name, const SpaceOptions& options) {
  (void)forget_space(desk, name);
  auto made = create_space(desk, name, {options.capacity, options.blocks_when_full, false});
  if (!made) return made.error();
  made->root->born = 0;
  return {};
}

Result<void> keep_from_now_on(Desk& desk, std::string_view name, Keeps keeps, uint64_t id, uint64_t last_age) {
  auto opened = open_space(desk, name);
  if (!opened) return opened.error();
  Locked locked(desk, *opened->root, kStripes);
  for (Stripe& stripe : locked.stripes()) stripe.last_age = std::max(stripe.last_age, last_age);
  opened->root->id = id;
  opened->root->keeps = keeps;
  return {};
}

void drop_durable(Desk& desk) {
  std::vector<std::string> names;
  for_each_root(desk, [&](const Root& root) {
    if (root.keeps != Keeps::kNothing) names.emplace_back(name_of(root));
  });
  for (const std::string& name : names) (void)forget_space(desk, name);
}

uint64_t new_id() {
  uint64_t id = 0;
  while (id == 0) GODWIT_CHECK(getrandom(&id, sizeof id, 0) == sizeof id);
  return id;
}

}  // namespace godwit::store
