#include "tuplespace/store/root.hh"

#include <x86intrin.h>

#include <algorithm>

#include "tuplespace/match.hh"
#include "tuplespace/shared/futex.hh"
#include "tuplespace/shared/recovery.hh"

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

Locked::Locked(Desk& desk, Root& root, uint32_t stripe, uint32_t place)
    : desk_(desk), root_(root), stripes_(stripes_of(root, stripe)), place_(place) {
  *static_cast<volatile uint32_t*>(&desk.bench->spaces_in_hand[place]) = root.number + 1;
  compiler_barrier();
  for (Stripe& one : stripes_) desk.lock(one.lock);
  if (stripe == kStripes) desk.lock(root.wild_lock);
}

Locked::~Locked() {
  if (desk_.slot().undo_count) shared::roll_back(desk_.self.segment, desk_.slot());
  if (desk_.holds(root_.wild_lock)) desk_.unlock(root_.wild_lock);
  for (size_t i = stripes_.size(); i-- > 0;) desk_.unlock(stripes_[i].lock);
  compiler_barrier();
  *static_cast<volatile uint32_t*>(&desk_.bench->spaces_in_hand[place_]) = 0;
}

LockedBoth::LockedBoth(Desk& desk, Root& a, Root& b) : first_(desk, &a < &b ? a : b, kStripes, 0) {
  if (&a != &b) second_.emplace(desk, &a < &b ? b : a, kStripes, 1);
}

uint64_t next_age(Stripe& stripe) { return stripe.last_age = std::max<uint64_t>(__rdtsc(), stripe.last_age + 1); }

void made_room(Root& root) {
  if (!root.room_wanted.load(std::memory_order_relaxed) || !root.room_wanted.exchange(0)) return;
  root.room.fetch_add(1);
  shared::wake_all(root.room);
}

}  // namespace godwit::store
