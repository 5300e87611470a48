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
  uint32_t only = kStripes;
  for (TemplateView wanted : any_of) {
    if (!wanted.empty() && wanted[0].kind != PatternView::kActual) return kStripes;
    if (wanted.size() != any_of[0].size() && (wanted.empty() || any_of[0].empty())) return kStripes;
    if (!wanted.empty() && !equal(wanted[0].actual, any_of[0][0].actual)) return kStripes;
    only = wanted.empty() ? 0 : stripe_of_first(root, wanted[0].actual);
  }
  return only;
}

Locked::Part Locked::part_of(const Range& range) {
  return {range.root, stripes_of(*range.root, range.stripe), range.stripe == kStripes};
}

Locked::Locked(Desk& desk, Root& root, uint32_t stripe) : desk_(desk), only_(part_of({&root, stripe})), parts_(&only_, 1) {
  if (lock(only_)) [[unlikely]] {
    unlock(only_);
    lock_all();
  }
}

Locked::Locked(Desk& desk, std::vector<Range> ranges) : desk_(desk) {
  for (const Range& range : ranges) several_.push_back(part_of(range));
  std::sort(several_.begin(), several_.end(), [](const Part& a, const Part& b) { return a.stripes.data() < b.stripes.data(); });
  parts_ = several_;
  lock_all();
}

Locked::~Locked() {
  if (desk_.slot().undo_count) [[unlikely]] shared::roll_back(desk_.self.segment, desk_.slot());
  for (size_t i = parts_.size(); i-- > 0;) unlock(parts_[i]);
}

// Returns whether any stripe is marked.
bool Locked::lock(const Part& part) {
  volatile uint64_t& bits = desk_.bench->spaces_in_hand[part.root->number / 64];
  bits = bits | uint64_t{1} << part.root->number % 64;
  compiler_barrier();
  uint32_t marks = 0;
  for (Stripe& one : part.stripes) {
    desk_.lock(one.lock);
    marks |= one.committing;
  }
  if (part.whole) desk_.lock(part.root->wild_lock);
  return marks != 0;
}

// The bit of a root stays until the last of its stripes is unlocked.
void Locked::unlock(const Part& part) {
  if (desk_.holds(part.root->wild_lock)) desk_.unlock(part.root->wild_lock);
  for (size_t i = part.stripes.size(); i-- > 0;) desk_.unlock(part.stripes[i].lock);
  compiler_barrier();
  if (&part != parts_.data() && (&part)[-1].root == part.root) return;
  volatile uint64_t& bits = desk_.bench->spaces_in_hand[part.root->number / 64];
  bits = bits & ~(uint64_t{1} << part.root->number % 64);
}

// Finished once: what could not be, for want of memory, is left to the reaper.
void Locked::lock_all() {
  for (bool finished = desk_.finishing;; finished = true) {
    bool marked = false;
    for (const Part& part : parts_) marked |= lock(part);
    if (!marked || finished || !is_half_done()) [[likely]] return;
    for (size_t i = parts_.size(); i-- > 0;) unlock(parts_[i]);
    put_aside(desk_);  // the caller's
    (void)reap(desk_);
    take_up(desk_);
  }
}

bool Locked::is_half_done() const {
  for (const Part& part : parts_)
    for (const Stripe& stripe : part.stripes)
      if (stripe.committing && stripe.committing != desk_.owner()) [[unlikely]] return true;
  return false;
}

uint64_t next_age(Stripe& stripe) { return stripe.last_age = std::max<uint64_t>(__rdtsc(), stripe.last_age + 1); }

void made_room(Root& root) {
  if (!root.room_wanted.load(std::memory_order_relaxed) || !root.room_wanted.exchange(0)) return;
  root.room.fetch_add(1);
  shared::wake_all(root.room);
}

}  // namespace godwit::store
