#include "tuplespace/store/root.hh"

#include <x86intrin.h>

#include <algorithm>

#include "tuplespace/match.hh"
#include "tuplespace/shared/futex.hh"
#include "tuplespace/shared/recovery.hh"
#include "tuplespace/store/reap.hh"

namespace godwit::store {
namespace {

using shared::compiler_barrier;

constexpr uint64_t kStripeSeed = 0x5851F42D4C957F2Dull;

uint32_t stripe_of_first(const Root& root, const FieldView& first) {
  if (root.stripe_count == 1) return 0;
  return static_cast<uint32_t>(hash(first, kStripeSeed) >> 40) % kStripes;
}

// The stripes that an operation locks: kStripes means all.
std::span<Stripe> stripes_of(Root& root, uint32_t stripe) {
  uint32_t count = root.stripe_count;
  bool all = stripe == kStripes;
  if (all ? count != 1 && count != kStripes : stripe > kStripes) throw Damaged{&root};
  if (root.stripes[all ? 0 : stripe].place.space != root.number) throw Damaged{&root};
  return all ? std::span(root.stripes, count) : std::span(root.stripes + stripe, 1);
}

LockedPart part_of(const Range& range) { return {range.root, stripes_of(*range.root, range.stripe), range.stripe == kStripes}; }

volatile uint64_t& in_hand(Desk& desk, const Root& root) { return desk.bench->spaces_in_hand[root.number / 64]; }
uint64_t bit_of(const Root& root) { return uint64_t{1} << root.number % 64; }

// Before the first of its locks, and after the last.
void note_root(Desk& desk, const Root& root) {
  in_hand(desk, root) = in_hand(desk, root) | bit_of(root);
  compiler_barrier();
}
void forget_root(Desk& desk, const Root& root) {
  compiler_barrier();
  in_hand(desk, root) = in_hand(desk, root) & ~bit_of(root);
}

// Returns whether any stripe is marked.
inline bool lock(Desk& desk, const LockedPart& part) {
  note_root(desk, *part.root);
  uint32_t marks = 0;
  for (Stripe& one : part.stripes) {
    desk.lock(one.lock);
    marks |= one.committing;
  }
  if (part.whole) desk.lock(part.root->wild_lock);
  return marks != 0;
}
inline void unlock_stripes(Desk& desk, const LockedPart& part) {
  if (desk.holds(part.root->wild_lock)) desk.unlock(part.root->wild_lock);
  for (size_t i = part.stripes.size(); i-- > 0;) desk.unlock(part.stripes[i].lock);
}

bool lock_all(Desk& desk, std::span<const LockedPart> parts) {
  bool marked = false;
  for (const LockedPart& part : parts) marked |= lock(desk, part);
  return marked;
}
void unlock_all(Desk& desk, std::span<const LockedPart> parts) {
  for (size_t i = parts.size(); i-- > 0;) {
    unlock_stripes(desk, parts[i]);
    if (i == 0 || parts[i - 1].root != parts[i].root) forget_root(desk, *parts[i].root);
  }
}

// Not by ourselves, who are at it.
bool is_half_done(const Desk& desk, std::span<const LockedPart> parts) {
  for (const LockedPart& part : parts)
    for (const Stripe& stripe : part.stripes)
      if (stripe.committing && stripe.committing != desk.owner()) return true;
  return false;
}

// With the parts locked, as they are in the end. Once: what cannot be finished, for want of memory, is left to the reaper.
[[gnu::noinline]] void finish_what_is_marked(Desk& desk, std::span<const LockedPart> parts) {
  if (desk.finishing || !is_half_done(desk, parts)) return;
  unlock_all(desk, parts);
  put_aside(desk);  // the caller's
  (void)reap(desk);
  take_up(desk);
  lock_all(desk, parts);
}

inline void undo(Desk& desk) {
  if (desk.slot().undo_count) [[unlikely]] shared::roll_back(desk.self.segment, desk.slot());
}

}  // namespace

Root& root_of(Desk& desk, uint32_t number) {
  expect(number < shared::kSpaces && desk.header().spaces[number]);
  return *desk.self.segment.at<Root>(desk.header().spaces[number]);
}

void close_damaged(Root& root) {
  RootState live = RootState::kLive;
  root.state.compare_exchange_strong(live, RootState::kDamaged);
}

uint32_t stripe_of(const Root& root, TupleView fields) { return fields.empty() ? 0 : stripe_of_first(root, fields[0]); }

uint32_t stripe_of(const Root& root, std::span<const TemplateView> any_of) {
  auto no_actual = [](TemplateView wanted) { return !wanted.empty() && wanted[0].kind != PatternView::kActual; };
  if (any_of.empty() || no_actual(any_of[0])) return kStripes;
  TemplateView one = any_of[0];
  for (TemplateView other : any_of.subspan(1))
    if (no_actual(other) || other.empty() != one.empty() || (!one.empty() && !equal(other[0].actual, one[0].actual))) return kStripes;
  return one.empty() ? 0 : stripe_of_first(root, one[0].actual);
}

Locked::Locked(Desk& desk, Root& root, uint32_t stripe) : desk_(desk), part_(part_of({&root, stripe})) {
  if (lock(desk, part_)) [[unlikely]] finish_what_is_marked(desk, {&part_, 1});
}

Locked::~Locked() {
  undo(desk_);
  unlock_stripes(desk_, part_);
  forget_root(desk_, *part_.root);
}

LockedRanges::LockedRanges(Desk& desk, std::span<const Range> ranges) : desk_(desk) {
  parts_.reserve(ranges.size());
  for (const Range& range : ranges) parts_.push_back(part_of(range));
  std::sort(parts_.begin(), parts_.end(), [](const LockedPart& a, const LockedPart& b) { return a.stripes.data() < b.stripes.data(); });
  if (lock_all(desk, parts_)) [[unlikely]] finish_what_is_marked(desk, parts_);
}

LockedRanges::~LockedRanges() {
  undo(desk_);
  unlock_all(desk_, parts_);
}

uint64_t next_age(Stripe& stripe) { return stripe.last_age = std::max<uint64_t>(__rdtsc(), stripe.last_age + 1); }

void made_room(Root& root) {
  if (!root.room_wanted.load(std::memory_order_relaxed) || !root.room_wanted.exchange(0)) return;
  root.room.fetch_add(1);
  shared::wake_all(root.room);
}

}  // namespace godwit::store
