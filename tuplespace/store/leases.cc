#include "tuplespace/store/leases.hh"

#include <algorithm>

#include "tuplespace/shared/futex.hh"
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/delivery.hh"
#include "tuplespace/store/index.hh"
#include "tuplespace/store/publish.hh"
#include "tuplespace/store/sleep.hh"
#include "tuplespace/store/transactions.hh"

namespace godwit::store {
namespace {

constexpr uint64_t kNever = ~uint64_t{0};
constexpr Time kPutOff = std::chrono::milliseconds(50);

uint64_t tail_at(uint64_t length) { return (sizeof(Stored) + length + 7) / 8 * 8; }
MortalTail& tail_of(const Desk& desk, const Stored& stored) {
  uint64_t at = tail_at(stored.length);
  check_room(desk, desk.ref_of(&stored), at + sizeof(MortalTail));
  return *reinterpret_cast<MortalTail*>(const_cast<char*>(reinterpret_cast<const char*>(&stored)) + at);
}

Lease& lease_in(const Desk& desk, const Stripe& stripe, Ref ref) {
  Lease& lease = desk.at<Lease>(ref);
  expect(lease.place == stripe.place);
  return lease;
}

// The links that lead to a lease from both sides.
Ref& from_sooner(Desk& desk, Stripe& stripe, const Lease& lease) {
  return lease.sooner ? lease_in(desk, stripe, lease.sooner).later : stripe.first_lease;
}
Ref& from_later(Desk& desk, Stripe& stripe, const Lease& lease) {
  return lease.later ? lease_in(desk, stripe, lease.later).sooner : stripe.last_lease;
}

// Sets the timer to it, if it is the soonest.
void tell_timer(Desk& desk, uint64_t due) {
  shared::Header& header = desk.header();
  for (uint64_t next = header.next_due.load(); due < next;)
    if (header.next_due.compare_exchange_weak(next, due)) return wake_timer(desk.self.segment);
}

// In the caller's transaction: a lease that stands in no list comes to its place, nearly always the last.
void link_record(Desk& desk, Stripe& stripe, Ref ref) {
  Lease& lease = desk.at<Lease>(ref);
  Ref before = stripe.last_lease;
  Steps steps(desk, ~0ull);
  for (; before && lease_in(desk, stripe, before).due > lease.due; steps.take()) before = lease_in(desk, stripe, before).sooner;
  Ref after = before ? lease_in(desk, stripe, before).later : stripe.first_lease;
  desk.set(&lease.sooner, before);
  desk.set(&lease.later, after);
  desk.set(&from_sooner(desk, stripe, lease), ref);
  desk.set(&from_later(desk, stripe, lease), ref);
  tell_timer(desk, lease.due);
}

void unlink_record(Desk& desk, Stripe& stripe, Ref ref) {
  Lease& lease = lease_in(desk, stripe, ref);
  Ref &before = from_sooner(desk, stripe, lease), &behind = from_later(desk, stripe, lease);
  expect(before == ref && behind == ref);
  desk.set(&before, lease.later);
  desk.set(&behind, lease.sooner);
}

// In the caller's transaction.
void reschedule(Desk& desk, Stripe& stripe, Ref ref, uint64_t due) {
  unlink_record(desk, stripe, ref);
  desk.set(&desk.at<Lease>(ref).due, due);
  link_record(desk, stripe, ref);
}

void fill(Lease& lease, Place place, Ref tuple, uint64_t due) {
  lease = Lease{};
  lease.place = place;
  lease.tuple = tuple;
  lease.due = due;
}

// In the caller's transaction: a delivery is over, and its lease goes into the second hand. Who still knows of it finds it is of no
// stripe, until its memory is another's.
void end_delivery(Desk& desk, Stripe& stripe, Ref ref) {
  unlink_record(desk, stripe, ref);
  desk.set(&desk.at<Lease>(ref).place, Place{});
  pick_up(desk, kSecondHand, ref);
}

// The tuple of a delivery goes back by its age, unless its own time is over. False: no memory.
bool bring_back(Desk& desk, Root& root, Stripe& stripe, Ref ref) {
  Lease& lease = lease_in(desk, stripe, ref);
  Ref tuple = lease.tuple;
  Stored& stored = stored_in(desk, stripe, tuple);
  Fields fields = fields_of(desk, stored);
  bool gone = stored.age < root.born || (stored.pins & kMortal && is_over(desk, stored));
  bool done = put_into(desk, root, stripe, tuple, fields.view(), Comes::kBack, gone, [&] { end_delivery(desk, stripe, ref); });
  give(desk, kSecondHand);
  wake_answered(desk);
  return done;
}

// A delivery that cannot come back now, for want of memory, comes later.
void put_off(Desk& desk, Stripe& stripe, Ref ref) {
  reschedule(desk, stripe, ref, due_after(kPutOff));
  desk.commit();
}

void end_lease(Desk& desk, Root& root, Stripe& stripe, Ref ref) {
  const Lease& lease = lease_in(desk, stripe, ref);
  if (lease.delivers) {
    if (!bring_back(desk, root, stripe, ref)) put_off(desk, stripe, ref);
    return;
  }
  Ref tuple = lease.tuple;
  unlink(desk, stripe, tuple);
  discard(desk, tuple);
  made_room(root);
}

// The lease of a delivery that is not over; null: it is.
Lease* find_delivery(Desk& desk, const Stripe& stripe, const Delivery& delivery) {
  if (!delivery.lease) return nullptr;
  Lease& lease = desk.at<Lease>(delivery.lease);
  bool is = lease.place == stripe.place && lease.number == delivery.number && lease.delivers && lease.owner;
  return is && lease.due > shared::monotonic_ns() ? &lease : nullptr;
}

// f(root, stripe) for the stripes that have leases, each locked.
template <class F>
void for_each_leasing(Desk& desk, F f) {
  for_each_root(desk, [&](Root& root) {
    for (uint32_t i = 0; i < kStripes; ++i) {
      if (!__atomic_load_n(&root.stripes[i].first_lease, __ATOMIC_RELAXED)) continue;
      try {
        Locked locked(desk, root, i);
        if (root.state.load() == RootState::kLive) f(root, locked.stripe());
      } catch (const Damaged&) {
        empty_hands(desk);
        close_damaged(root);
      }
    }
  });
}

// Its space was dropped meanwhile: the delivery is over before it begins.
Delivery drop_at_once(Desk& desk, Waiter& waiter) {
  Ref tuple = waiter.held;
  desk.set(&waiter.held, Ref{0});
  discard(desk, tuple);
  give(desk, kSecondHand);
  return {};
}

}  // namespace

uint64_t due_after(Time time) {
  uint64_t now = shared::monotonic_ns(), more = static_cast<uint64_t>(std::max<int64_t>(time.count(), 0));
  return more < kNever - now ? now + more : kNever - 1;
}

uint64_t mortal_tail(uint64_t length) { return tail_at(length) + sizeof(MortalTail) - sizeof(Stored) - length; }

bool make_mortal(Desk& desk, Stored& stored, uint64_t due) {
  Ref ref = take(desk, kThirdHand, sizeof(Lease));
  if (!ref) return false;
  fill(desk.at<Lease>(ref), stored.place, desk.ref_of(&stored), due);
  stored.pins |= kMortal;
  tail_of(desk, stored) = MortalTail{due, ref, 0};
  return true;
}

uint64_t due_of(const Desk& desk, const Stored& stored) { return tail_of(desk, stored).due; }
bool is_over(const Desk& desk, const Stored& stored) { return due_of(desk, stored) <= shared::monotonic_ns(); }

// Of which space it is by now, it may not know yet.
void link_lease(Desk& desk, Stripe& stripe, Ref tuple) {
  Ref ref = tail_of(desk, stored_at(desk, tuple)).lease;
  Lease& lease = desk.at<Lease>(ref);
  expect(lease.tuple == tuple);
  desk.set(&lease.place, stripe.place);
  link_record(desk, stripe, ref);
}

void unlink_lease(Desk& desk, Stripe& stripe, Ref tuple) {
  Ref ref = tail_of(desk, stored_at(desk, tuple)).lease;
  expect(lease_in(desk, stripe, ref).tuple == tuple);
  unlink_record(desk, stripe, ref);
}

void pick_up_lease(Desk& desk, const Stored& stored) {
  if (stored.pins & kMortal) pick_up(desk, kThirdHand, tail_of(desk, stored).lease);
}

std::optional<Delivery> deliver_for(Desk& desk, Waiter& waiter, Time time) {
  Ref ref = take(desk, kSecondHand, sizeof(Lease));
  if (!ref) return std::nullopt;
  Stored& stored = stored_at(desk, waiter.held);
  desk.bench->leases = 1;
  Root& root = root_of(desk, stored.place.space);
  Locked locked(desk, root, stored.place.stripe);
  Stripe& stripe = locked.stripe();
  if (stored.age < root.born) return drop_at_once(desk, waiter);
  Lease& lease = desk.at<Lease>(ref);
  fill(lease, stripe.place, waiter.held, due_after(time));
  lease.delivers = 1;
  lease.owner = desk.owner();
  lease.number = next_age(stripe);
  link_record(desk, stripe, ref);
  desk.set(&waiter.held, Ref{0});
  put_down(desk, kSecondHand);
  desk.commit();
  return Delivery{ref, stored.place.stripe, lease.number};
}

bool acknowledge(Desk& desk, Root& root, const Delivery& delivery, Transaction* transaction) {
  {
    Locked locked(desk, root, delivery.stripe);
    Lease* lease = find_delivery(desk, locked.stripe(), delivery);
    if (!lease) return false;
    Ref tuple = lease->tuple;
    end_delivery(desk, locked.stripe(), delivery.lease);
    if (transaction) keep(desk, *transaction, tuple, [] {});
    else discard(desk, tuple);
  }
  give(desk, kSecondHand);
  made_room(root);
  return true;
}

bool release(Desk& desk, Root& root, const Delivery& delivery, Time delay) {
  Locked locked(desk, root, delivery.stripe);
  Lease* lease = find_delivery(desk, locked.stripe(), delivery);
  if (!lease) return false;
  if (delay.count() <= 0 && bring_back(desk, root, locked.stripe(), delivery.lease)) return true;
  desk.set(&lease->owner, 0u);
  reschedule(desk, locked.stripe(), delivery.lease, due_after(delay));
  desk.commit();
  return true;
}

bool extend(Desk& desk, Root& root, const Delivery& delivery, Time time) {
  Locked locked(desk, root, delivery.stripe);
  if (!find_delivery(desk, locked.stripe(), delivery)) return false;
  reschedule(desk, locked.stripe(), delivery.lease, due_after(time));
  desk.commit();
  return true;
}

bool end_deliveries(Desk& desk, Bench& bench) {
  if (!bench.leases) return true;
  bool all = true;
  for_each_leasing(desk, [&](Root& root, Stripe& stripe) {
    Steps steps(desk, ~0ull);
    for (Ref ref = stripe.first_lease, next; ref && all; ref = next) {
      const Lease& lease = lease_in(desk, stripe, ref);
      next = lease.later;
      steps.take();
      if (lease.delivers && lease.owner == bench.owner) all = bring_back(desk, root, stripe, ref);
    }
  });
  if (all) bench.leases = 0;
  return all;
}

void clear_leases(Desk& desk, Stripe& stripe) {
  Steps steps(desk, ~0ull);
  while (Ref ref = stripe.first_lease) {
    steps.take();
    Ref tuple = lease_in(desk, stripe, ref).tuple;
    end_delivery(desk, stripe, ref);
    discard(desk, tuple);
    give(desk, kSecondHand);
  }
}

uint32_t timer_mark(const shared::Segment& segment) { return segment.header().timer_bell.load(); }

// Whoever brings something sooner than all that is known tells of it; for that, all that is found here is known first.
uint64_t expire(Desk& desk) {
  std::atomic<uint64_t>& known = desk.header().next_due;
  known = kNever;
  uint64_t next = kNever;
  for_each_leasing(desk, [&](Root& root, Stripe& stripe) {
    uint64_t now = shared::monotonic_ns();
    Steps steps(desk, ~0ull);
    for (; stripe.first_lease && lease_in(desk, stripe, stripe.first_lease).due <= now; steps.take())
      end_lease(desk, root, stripe, stripe.first_lease);
    if (stripe.first_lease) next = std::min(next, lease_in(desk, stripe, stripe.first_lease).due);
  });
  for (uint64_t seen = known.load(); next < seen && !known.compare_exchange_weak(seen, next);) {
  }
  return next;
}

void await_due(const shared::Segment& segment, uint32_t mark, uint64_t due, Time at_most) {
  segment.header().timer_sleeps = 1;
  uint64_t now = shared::monotonic_ns();
  if (due <= now) return;
  uint64_t time = std::min(due - now, static_cast<uint64_t>(at_most.count()));
  sleep_on(segment.header().timer_bell, mark, kForever, Time(time));
}

void wake_timer(const shared::Segment& segment) {
  shared::Header& header = segment.header();
  if (ring(header.timer_bell, header.timer_sleeps)) shared::wake_one(header.timer_bell);
}

}  // namespace godwit::store
