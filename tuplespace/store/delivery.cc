#include "tuplespace/store/delivery.hh"

#include <optional>

#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/index.hh"
#include "tuplespace/store/publish.hh"

namespace godwit::store {

void take_out(Desk& desk, Stripe& stripe, Ref tuple) {
  unlink(desk, stripe, tuple);
  desk.set(&desk.bench->held, tuple);
  desk.commit();
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
    done = put_into(desk, root, locked.stripe(), bench.held, fields_of(stored).view(), false, stored.age < root.born,
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

void drop_copies(Desk& desk, Bench& bench) {
  while (Ref tuple = bench.chain) {
    desk.set(&bench.chain, stored_at(desk, tuple).newer);
    discard(desk, tuple);
  }
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
