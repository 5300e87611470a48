#include "tuplespace/store/delivery.hh"

#include <new>
#include <optional>

#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/index.hh"
#include "tuplespace/store/leases.hh"
#include "tuplespace/store/publish.hh"

namespace godwit::store {

void take_out(Desk& desk, Stripe& stripe, Ref tuple, Waiter& waiter) {
  ++stripe.taken;
  unlink(desk, stripe, tuple);
  desk.set(&waiter.held, tuple);
  desk.commit();
}

void discard(Desk& desk, Ref tuple) {
  Stored& stored = stored_at(desk, tuple);
  if (stored.pins & ~kNoPins) {
    desk.set(&stored.pins, stored.pins | kTaken);
    return desk.commit();
  }
  pick_up(desk, kFirstHand, tuple);
  pick_up_lease(desk, stored);
  desk.commit();
  give(desk, kFirstHand);
  give(desk, kThirdHand);
}

void discard_with_its_lock(Desk& desk, Ref tuple, const std::function<void()>& forget) {
  Stored& stored = stored_at(desk, tuple);
  if (__atomic_load_n(&stored.pins, __ATOMIC_ACQUIRE)) {
    Locked locked(desk, root_of(desk, stored.place.space), stored.place.stripe);
    forget();
    discard(desk, tuple);
  } else {
    forget();
    discard(desk, tuple);
  }
}

void deliver(Desk& desk, Waiter& waiter) {
  Root& root = root_of(desk, stored_at(desk, waiter.held).place.space);
  discard_with_its_lock(desk, waiter.held, [&] { desk.set(&waiter.held, Ref{0}); });
  made_room(root);
}

namespace {

bool put_back_held(Desk& desk, Waiter& waiter) {
  Stored& stored = stored_at(desk, waiter.held);
  bool done;
  {
    Root& root = root_of(desk, stored.place.space);
    Locked locked(desk, root, stored.place.stripe);
    done = put_into(desk, root, locked.stripe(), waiter.held, fields_of(desk, stored).view(), Comes::kBack, stored.age < root.born,
                    [&] { desk.set(&waiter.held, Ref{0}); });
  }
  wake_answered(desk);
  return done;
}

}  // namespace

// Who reads a tuple of the chain changes its pins with the lock of the space where it was.
bool put_chained(Desk& desk, Bench& bench) {
  Ref tuple = bench.chain;
  Stored& stored = stored_at(desk, tuple);
  Root &from = root_of(desk, stored.place.space), &to = bench.chain_decided ? root_of(desk, bench.chain_space) : from;
  expect(stored.shape == 0);
  Fields fields = fields_of(desk, stored);
  std::optional<LockedRanges> locked;  // unless the caller has locked the spaces
  if (!desk.holds(to.wild_lock)) locked.emplace(desk, ranges_of(from, to));
  bool dropped = bench.chain_decided ? to.generation.load() != bench.chain_generation : stored.age < to.born;
  bool done = blaming(to, [&] {
    return put_into(desk, to, to.stripes[stripe_of(to, fields.view())], tuple, fields.view(), bench.chain_decided ? Comes::kNew : Comes::kBack, dropped,
                    [&, next = stored.newer] { desk.set(&bench.chain, next); });
  });
  locked.reset();
  wake_answered(desk);
  return done;
}

void pin(Desk& desk, Ref tuple, Waiter& waiter) {
  Stored& stored = stored_at(desk, tuple);
  desk.set(&stored.pins, (stored.pins | kShared) + 1);
  desk.set(&waiter.pinned, tuple);
  desk.commit();
}

void take_pin_off(Desk& desk, Ref tuple, const std::function<void()>& forget) {
  Stored& stored = stored_at(desk, tuple);
  for (;;) {
    Place place = stored.place;
    Locked locked(desk, root_of(desk, place.space), place.stripe);
    if (stored.place != place) continue;  // collected meanwhile
    expect(stored.pins & ~kNoPins & ~kTaken);
    bool last = (stored.pins & ~kNoPins) == (kTaken | 1);
    desk.set(&stored.pins, stored.pins - 1);
    forget();
    if (last) {
      pick_up(desk, kFirstHand, tuple);
      pick_up_lease(desk, stored);
    }
    desk.commit();
    break;
  }
  give(desk, kFirstHand);
  give(desk, kThirdHand);
}

namespace {

void drop_copies(Desk& desk, Bench& bench) {
  while (Ref tuple = bench.chain) {
    desk.set(&bench.chain, stored_at(desk, tuple).newer);
    discard(desk, tuple);
  }
}

// Tuples on their way to another space go on if that was decided, and else back.
bool end_chain(Desk& desk, Bench& bench) {
  Steps steps(desk, ~0ull);
  if (!bench.chain_decided && bench.chain_copies) drop_copies(desk, bench);
  for (; bench.chain; steps.take())
    if (!put_chained(desk, bench)) return false;
  bench.chain_decided = 0;
  return true;
}

// f(), after which `what` is no longer in hand, or it returns false. Where there is damage, the space keeps it and is closed.
template <class F>
bool settle(Desk& desk, Ref& what, F f) {
  if (!what) return true;
  Root* root = nullptr;
  try {
    root = &root_of(desk, stored_at(desk, what).place.space);
    return f();
  } catch (const Damaged& damage) {
    if (damage.of) root = damage.of;
    if (root) close_damaged(*root);
    empty_hands(desk);
    what = 0;
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

}  // namespace

bool settle(Desk& desk, Waiter& waiter) noexcept {
  auto read_no_more = [&] { take_pin_off(desk, waiter.pinned, [&] { desk.set(&waiter.pinned, Ref{0}); }); };
  return settle(desk, waiter.pinned, [&] { return read_no_more(), true; }) &&
         settle(desk, waiter.held, [&] { return put_back_held(desk, waiter); });
}

bool settle(Desk& desk, Bench& bench) noexcept {
  return settle(desk, bench.waiter) && settle(desk, bench.chain, [&] { return end_chain(desk, bench); });
}

}  // namespace godwit::store
