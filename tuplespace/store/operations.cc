#include "tuplespace/store/operations.hh"

#include <x86intrin.h>

#include <algorithm>

#include "tuplespace/match.hh"
#include "tuplespace/shared/futex.hh"
#include "tuplespace/shared/recovery.hh"
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/waiters.hh"

namespace godwit::store {
namespace {

using namespace shared;

constexpr uint64_t kStripeSeed = 0x5851F42D4C957F2Dull;

uint32_t stripe_of_first(const Root& root, const FieldView& first) {
  return static_cast<uint32_t>(hash(first, kStripeSeed) >> 40) % root.stripe_count;
}

// Those who wait for such a tuple.
struct Takers {
  std::vector<uint32_t> readers;  // as many as one transaction can answer
  bool more_readers = false;
  uint32_t taker = 0;             // who has waited longest to take it; 0: nobody
  uint64_t ticket = 0;
};

void consider(Desk& desk, Takers& takers, uint32_t owner, const Bench& bench, TupleView fields) {
  if (!wants(desk, bench, fields) || desk.is_dead(owner)) return;  // a dead one's wait goes with its slot
  if (bench.verb == Verb::kIn) {
    if (!takers.taker || bench.ticket < takers.ticket) takers.taker = owner, takers.ticket = bench.ticket;
  } else if (takers.readers.size() < kWakes - 1) {
    takers.readers.push_back(owner);
  } else {
    takers.more_readers = true;
  }
}

void answer(Desk& desk, Root& root, uint32_t owner, Ref Bench::*as, Ref tuple) {
  Bench& bench = *desk.bench_of(owner);
  unlink_waiter(desk, root, bench);
  desk.set(&(bench.*as), tuple);
  desk.bench->wakes[desk.bench->wake_count] = owner;
  compiler_barrier();
  desk.bench->wake_count++;
}

// With the lock, without which none of them leaves.
void tell_answered(Desk& desk) {
  for (uint32_t i = 0; i < desk.bench->wake_count; ++i)
    if (Bench* bench = desk.bench_of(desk.bench->wakes[i])) bench->state.fetch_and(~kWaits);
}

// Answers takers, and links the tuple unless it is taken: one transaction.
void serve(Desk& desk, Root& root, Stripe& stripe, Ref tuple, Ref shape, TupleView fields, const Takers& takers, bool linked) {
  Stored& stored = stored_at(desk, tuple);
  for (uint32_t reader : takers.readers) answer(desk, root, reader, &Bench::pinned, tuple);
  if (!takers.readers.empty()) desk.set(&stored.pins, (stored.pins | kShared) + static_cast<uint32_t>(takers.readers.size()));
  bool taken = takers.taker && !takers.more_readers;
  if (taken) {
    if (linked) unlink(desk, stripe, tuple);
    answer(desk, root, takers.taker, &Bench::held, tuple);
  } else if (!linked) {
    link(desk, stripe, tuple, shape, fields);
  }
}

}  // namespace

void rehome(Desk& desk, Root& root, uint32_t stripe, Stored& stored) {
  desk.set(&stored.place, Place{static_cast<uint16_t>(root.number), static_cast<uint8_t>(stripe), stored.place.size_class});
  desk.set(&stored.age, next_age(root.stripes[stripe]));
  desk.commit();
}

namespace {

// Puts a tuple that somebody has in hand into a stripe, locked. False: no memory for its shape.
// dropped: the space that it was for is no more, though its root may be another's.
bool put_into(Desk& desk, Root& root, Stripe& stripe, Ref tuple, TupleView fields, bool as_newest, bool dropped,
              const std::function<void()>& let_go) {
  Stored& stored = stored_at(desk, tuple);
  if (root.state.load() != RootState::kLive || dropped) {
    let_go();
    discard(desk, tuple);
    return true;
  }
  Ref shape = shape_for(desk, stripe, fields);
  if (!shape) return false;
  if (as_newest) rehome(desk, root, static_cast<uint32_t>(&stripe - root.stripes), stored);
  publish(desk, root, stripe, tuple, shape, fields, let_go);
  return true;
}

Fields fields_of(const Stored& stored) {
  Fields fields;
  if (!fields.read(encoding_of(stored))) throw Damaged();
  return fields;
}

}  // namespace

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
    : desk_(desk), root_(root), first_(stripe == kStripes ? 0 : stripe),
      end_(stripe == kStripes ? root.stripe_count : stripe + 1), place_(place) {
  *static_cast<volatile uint32_t*>(&desk.bench->spaces_in_hand[place]) = root.number + 1;
  compiler_barrier();
  for (uint32_t i = first_; i < end_; ++i) desk.lock(root.stripes[i].lock);
  if (stripe == kStripes) desk.lock(root.wild_lock);
}

Locked::~Locked() {
  if (desk_.slot().undo_count) roll_back(desk_.self.segment, desk_.slot());
  if (desk_.holds(root_.wild_lock)) desk_.unlock(root_.wild_lock);
  for (uint32_t i = end_; i-- > first_;) desk_.unlock(root_.stripes[i].lock);
  compiler_barrier();
  *static_cast<volatile uint32_t*>(&desk_.bench->spaces_in_hand[place_]) = 0;
}

uint64_t next_age(Stripe& stripe) { return stripe.last_age = std::max<uint64_t>(__rdtsc(), stripe.last_age + 1); }

void publish(Desk& desk, Root& root, Stripe& stripe, Ref tuple, Ref shape, TupleView fields,
             const std::function<void()>& let_go) {
  if (root.arrivals_wanted.load(std::memory_order_relaxed)) tell_watchers(root);
  if (!stripe.waiters && !root.wild_waiters) {
    link(desk, stripe, tuple, shape, fields);
    let_go();
    desk.commit();
    return;
  }
  // Locked before anything changes: nobody may wait for a lock with a change half done.
  bool all_locked = desk.holds(root.wild_lock);
  if (!all_locked) desk.lock(root.wild_lock);  // freed with the stripe if we leave by an exception
  for (bool linked = false, more = true; more; linked = true) {
    Takers takers;
    for_each_candidate(desk, root, stripe, fields, [&](uint32_t owner, const Bench& bench) {
      consider(desk, takers, owner, bench, fields);
    });
    serve(desk, root, stripe, tuple, shape, fields, takers, linked);
    if (!linked) let_go();
    desk.commit();
    tell_answered(desk);
    more = takers.more_readers;
    if (more) wake_answered(desk);
  }
  if (!all_locked) desk.unlock(root.wild_lock);
}

// Nothing is written: who did not sleep may have left meanwhile, and given its bench back.
void wake_answered(Desk& desk) {
  Bench& mine = *desk.bench;
  for (uint32_t i = 0; i < mine.wake_count; ++i)
    if (Bench* bench = desk.bench_of(mine.wakes[i])) wake_one(bench->state);
  compiler_barrier();
  mine.wake_count = 0;
}

void take_out(Desk& desk, Stripe& stripe, Ref tuple) {
  unlink(desk, stripe, tuple);
  desk.set(&desk.bench->held, tuple);
  desk.commit();
}

Root& root_of(Desk& desk, uint32_t number) {
  if (number >= kSpaces || !desk.header().spaces[number]) throw Damaged();
  return *desk.self.segment.at<Root>(desk.header().spaces[number]);
}

void tell_watchers(Root& root) {
  if (!root.arrivals_wanted.exchange(0)) return;
  root.arrivals.fetch_add(1);
  wake_all(root.arrivals);
}

void made_room(Root& root) {
  if (!root.room_wanted.load(std::memory_order_relaxed) || !root.room_wanted.exchange(0)) return;
  root.room.fetch_add(1);
  wake_all(root.room);
}

void discard(Desk& desk, Ref tuple) {
  Stored& stored = stored_at(desk, tuple);
  if (stored.pins & ~kShared) {
    desk.set(&stored.pins, stored.pins | kTaken);
    return desk.commit();
  }
  pick_up(desk, kFirstHand, tuple);
  desk.commit();
  give(desk, kFirstHand);
}

void deliver(Desk& desk) {
  Ref tuple = desk.bench->held;
  Stored& stored = stored_at(desk, tuple);
  Root& root = root_of(desk, stored.place.space);
  if (__atomic_load_n(&stored.pins, __ATOMIC_ACQUIRE)) {
    Locked locked(desk, root, stored.place.stripe);
    desk.set(&desk.bench->held, Ref{0});
    discard(desk, tuple);
  } else {
    desk.set(&desk.bench->held, Ref{0});
    discard(desk, tuple);
  }
  made_room(root);
}

bool put_back_held(Desk& desk, Bench& bench) {
  Stored& stored = stored_at(desk, bench.held);
  bool done;
  {
    Root& root = root_of(desk, stored.place.space);
    Locked locked(desk, root, stored.place.stripe);
    done = put_into(desk, root, *locked.begin(), bench.held, fields_of(stored).view(), false, stored.age < root.born,
                    [&] { desk.set(&bench.held, Ref{0}); });
  }
  wake_answered(desk);
  return done;
}

bool put_chained(Desk& desk, Bench& bench) {
  Ref tuple = bench.chain;
  Stored& stored = stored_at(desk, tuple);
  Root& root = root_of(desk, bench.chain_decided ? bench.chain_space : stored.place.space);
  Fields fields = fields_of(stored);
  std::optional<Locked> locked;  // unless the caller has locked the space
  if (!desk.holds(root.wild_lock)) locked.emplace(desk, root, kStripes);
  bool dropped = bench.chain_decided ? root.generation.load() != bench.chain_generation : stored.age < root.born;
  bool done = put_into(desk, root, root.stripes[stripe_of(root, fields.view())], tuple, fields.view(), bench.chain_decided, dropped,
                       [&, next = stored.newer] { desk.set(&bench.chain, next); });
  locked.reset();
  wake_answered(desk);
  return done;
}

void pin(Desk& desk, Ref tuple) {
  Stored& stored = stored_at(desk, tuple);
  desk.set(&stored.pins, (stored.pins | kShared) + 1);
  desk.set(&desk.bench->pinned, tuple);
  desk.commit();
}

void unpin(Desk& desk, Bench& bench) {
  Ref tuple = bench.pinned;
  Stored& stored = stored_at(desk, tuple);
  for (;;) {
    Place place = stored.place;
    Locked locked(desk, root_of(desk, place.space), place.stripe);
    if (stored.place.space != place.space || stored.place.stripe != place.stripe) continue;  // collected meanwhile
    bool last = (stored.pins & ~kShared) == (kTaken | 1);
    desk.set(&stored.pins, stored.pins - 1);
    desk.set(&bench.pinned, Ref{0});
    if (last) pick_up(desk, kFirstHand, tuple);
    desk.commit();
    break;
  }
  give(desk, kFirstHand);
}

}  // namespace godwit::store
