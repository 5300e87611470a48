#include "tuplespace/store/store.hh"

#include "tuplespace/store/look.hh"
#include "tuplespace/store/store_work.hh"

namespace godwit::store {

void abandon(Desk& desk) {
  empty_hands(desk);
  settle(desk, *desk.bench);
  desk.bench->waiter.wanted = desk.bench->wake_count = 0;
  desk.bench->waiter.waiting = Waiting::kNo;
}

void let_go(Desk& desk) {
  empty_hands(desk);
  try {
    end_wait(desk, desk.bench->waiter);
    settle(desk, *desk.bench);
  } catch (const Damaged&) {
    abandon(desk);
  }
}

bool is_settled(Desk& desk) {
  GODWIT_CHECK(!desk.showing);  // receive must not use a space
  Bench& bench = *desk.bench;
  bool busy = bench.waiter.held || bench.waiter.pinned || bench.chain;
  return !busy || settle(desk, bench);
}

std::optional<Error> too_large(TupleView tuple, uint64_t length) {
  if (tuple.size() <= kMaxArity && length <= kMaxPayload) return std::nullopt;
  return make_error(std::errc::message_size, "the tuple is too large; a gigabyte and 4096 fields fit");
}

std::optional<Error> refuse(std::span<const TemplateView> any_of) {
  for (TemplateView wanted : any_of)
    if (wanted.size() > kMaxArity) return make_error(std::errc::message_size, "the template is too large; 4096 fields fit");
  return std::nullopt;
}

std::optional<Error> over(const Wait& wait, Error (*out_of_time)()) {
  if (wait.stop.stop_requested()) return make_error(std::errc::operation_canceled, "the wait was stopped; wait again");
  if (std::chrono::steady_clock::now() >= wait.deadline) return out_of_time();
  return std::nullopt;
}

bool write_tuple(Desk& desk, const Root& root, uint32_t stripe, TupleView tuple, uint64_t length, uint64_t tail) {
  Ref ref = take(desk, kFirstHand, sizeof(Stored) + length + tail);
  if (!ref) return false;
  Stored& stored = desk.at<Stored>(ref);
  stored.length = static_cast<uint32_t>(length);
  stored.place = root.stripes[stripe].place;
  stored.pins = 0;
  encode_to(stored.data, tuple);
  return true;
}

Result<Store> Store::open(const shared::Segment& segment, std::string_view name) {
  auto desk = Desk::of(segment);
  if (!desk) return desk.error();
  auto root = open_space(**desk, name);
  if (!root) return root.error();
  return Store(segment, root->root, root->generation);
}

Result<Store> Store::create(const shared::Segment& segment, std::string_view name, const SpaceOptions& options) {
  auto desk = Desk::of(segment);
  if (!desk) return desk.error();
  auto root = create_space(**desk, name, options);
  if (!root) return root.error();
  return Store(segment, root->root, root->generation);
}

// With a stripe locked.
std::optional<Error> Store::closed() const { return store::closed(*root_, generation_); }

Result<void> Store::commit(const shared::Segment& segment, Transaction& transaction) {
  auto desk = Desk::of(segment);
  if (!desk) return desk.error();
  try {
    bool records = transaction.is_durable;
    if (records) await_log_room(**desk);
    if (auto no = store::commit(**desk, transaction)) return *no;
    return records ? await_disk(**desk, false) : Result<void>();
  } catch (const Damaged& damage) {
    abandon(**desk);
    if (damage.of) close_damaged(*damage.of);
    return damage.of ? damaged(*damage.of) : segment_damaged();
  } catch (...) {
    let_go(**desk);
    throw;
  }
}

Result<bool> Store::commit_if(Condition condition, std::span<const TemplateView> any_of, Transaction& transaction) {
  if (auto no = refuse(any_of)) return *no;
  return work<bool>([&](Desk& desk) -> Result<bool> {
    std::optional<Error> no;
    Range range{root_, stripe_of(*root_, any_of)};
    bool records = transaction.is_durable;
    auto done = store::commit_if(desk, transaction, {&range, 1}, [&]() -> std::optional<std::vector<Found>> {
      if (no = closed(); no) return std::nullopt;
      std::span<Stripe> all = range.stripe == kStripes ? stripes_of(*root_) : std::span(&root_->stripes[range.stripe], 1);
      Found found = find(desk, all, any_of);
      if ((condition == Condition::kInstead) != (found.tuple != 0)) return std::nullopt;
      return found.tuple ? std::vector{found} : std::vector<Found>();
    });
    if (no) return *no;
    if (!done || !(records || is_durable())) return done;
    auto written = await_disk(desk, !*done);
    return written ? done : written.error();
  });
}

Result<bool> Store::acknowledge(const Delivery& delivery, Transaction* transaction) {
  return work<bool>([&](Desk& desk) -> Result<bool> {
    if (transaction || !is_durable()) return store::acknowledge(desk, *root_, delivery, transaction);
    return durably<bool>(desk, [&](Transaction& own) { return Result<bool>(store::acknowledge(desk, *root_, delivery, &own)); });
  });
}
Result<bool> Store::release(const Delivery& delivery, Time delay) {
  return work<bool>([&](Desk& desk) -> Result<bool> { return store::release(desk, *root_, delivery, delay); });
}
Result<bool> Store::extend(const Delivery& delivery, Time time) {
  return work<bool>([&](Desk& desk) -> Result<bool> { return store::extend(desk, *root_, delivery, time); });
}

Result<uint64_t> Store::count_within(const Transaction& transaction, std::span<const TemplateView> any_of) {
  auto others = count(any_of);
  if (!others) return others;
  return work<uint64_t>([&](Desk& desk) -> Result<uint64_t> { return *others + count_puts(desk, transaction, *root_, any_of); });
}

Result<uint64_t> Store::count(std::span<const TemplateView> any_of) {
  if (any_of.empty()) return 0;
  return work<uint64_t>([&](Desk& desk) -> Result<uint64_t> {
    uint64_t number;
    {
      Locked locked(desk, *root_, stripe_of(*root_, any_of));
      if (auto no = closed()) return *no;
      number = godwit::store::count(desk, locked.stripes(), any_of);
    }
    return shown(desk, Result<uint64_t>(number));
  });
}

Result<std::vector<Tuple>> Store::all(std::span<const TemplateView> any_of) {
  return work<std::vector<Tuple>>([&](Desk& desk) -> Result<std::vector<Tuple>> {
    std::vector<Tuple> tuples;
    {
      Locked locked(desk, *root_, stripe_of(*root_, any_of));
      if (auto no = closed()) return *no;
      for (Ref ref : matches_of(desk, locked.stripes(), any_of)) tuples.push_back(to_tuple(fields_of(desk, stored_at(desk, ref)).view()));
    }
    return shown(desk, Result<std::vector<Tuple>>(std::move(tuples)));
  });
}

}  // namespace godwit::store
