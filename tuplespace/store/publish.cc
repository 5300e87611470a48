#include "tuplespace/store/publish.hh"

#include "tuplespace/shared/futex.hh"
#include "tuplespace/store/delivery.hh"
#include "tuplespace/store/index.hh"
#include "tuplespace/store/requests.hh"
#include "tuplespace/store/waiters.hh"
#include "tuplespace/store/watches.hh"

namespace godwit::store {
namespace {

using namespace shared;

// Those who wait for such a tuple.
struct Takers {
  std::vector<Waiter*> readers;  // as many as one transaction can answer
  bool more_readers = false;
  Waiter* taker = nullptr;       // who has waited longest to take it
};

void consider(Desk& desk, Takers& takers, Waiter& waiter, TupleView fields) {
  if (!wants(desk, waiter.wanted, fields) || desk.is_dead(waiter.owner)) return;  // a dead one's wait goes with its slot
  if (waiter.verb == Verb::kIn) {
    if (!takers.taker || waiter.ticket < takers.taker->ticket) takers.taker = &waiter;
  } else if (takers.readers.size() < kWakes - 1) {
    takers.readers.push_back(&waiter);
  } else {
    takers.more_readers = true;
  }
}

void answer(Desk& desk, Root& root, Waiter& waiter, Ref Waiter::*as, Ref tuple) {
  unlink_waiter(desk, root, waiter);
  desk.set(&(waiter.*as), tuple);
  desk.bench->wakes[desk.bench->wake_count] = desk.self.segment.offset_of(&futex_of(desk, waiter));
  compiler_barrier();
  desk.bench->wake_count++;
}

// Answers takers, and links the tuple unless it is taken: one transaction.
void serve(Desk& desk, Root& root, Stripe& stripe, Ref tuple, Ref shape, TupleView fields, const Takers& takers, bool linked) {
  Stored& stored = stored_at(desk, tuple);
  for (Waiter* reader : takers.readers) answer(desk, root, *reader, &Waiter::pinned, tuple);
  stripe.read += takers.readers.size();
  if (!takers.readers.empty()) desk.set(&stored.pins, (stored.pins | kShared) + static_cast<uint32_t>(takers.readers.size()));
  bool taken = takers.taker && !takers.more_readers;
  if (taken) {
    if (linked) unlink(desk, stripe, tuple);
    answer(desk, root, *takers.taker, &Waiter::held, tuple);
    ++stripe.taken;
  } else if (!linked) {
    link(desk, stripe, tuple, shape, fields);
  }
}

void tell(Desk& desk, Waiter& waiter, Offset* wake) {
  if (!store::tell_answered(desk, waiter)) *wake = 0;
}

// With the lock, without which none of them leaves. Who is awake is not to be woken.
void tell_answered(Desk& desk, const Takers& takers) {
  Offset* wake = desk.bench->wakes;
  for (Waiter* reader : takers.readers) tell(desk, *reader, wake++);
  if (takers.taker && !takers.more_readers) tell(desk, *takers.taker, wake);
}

// Makes the tuple, which is linked nowhere, one of that stripe, to be its newest: a transaction.
void rehome(Desk& desk, Stripe& stripe, Stored& stored) {
  desk.set(&stored.place, stripe.place);
  desk.set(&stored.age, next_age(stripe));
  desk.commit();
}

// Whether there may be wild waiters, or watches. They come with all stripes' locks; wild ones go with their queue's alone: so
// a 0 counts only if nobody else has the queue locked after it was seen, for it may be the change of somebody who is killed
// before it stands.
bool may_be_wild(const Desk& desk, const Root& root) {
  if (root.watches || __atomic_load_n(&root.wild_waiters, __ATOMIC_ACQUIRE)) return true;
  return root.wild_lock.word.load(std::memory_order_acquire) != 0 && !desk.holds(root.wild_lock);
}

}  // namespace

void publish(Desk& desk, Root& root, Stripe& stripe, Ref tuple, Ref shape, TupleView fields, bool comes,
             const std::function<void()>& let_go) {
  bool wild = may_be_wild(desk, root);
  stripe.put += comes;
  if (!wild && !stripe.waiters) {
    link(desk, stripe, tuple, shape, fields);
    let_go();
    desk.commit();
    return;
  }
  // Locked before anything changes: nobody may wait for a lock with a change half done.
  bool locks = wild && !desk.holds(root.wild_lock);
  if (locks) desk.lock(root.wild_lock);  // freed with the stripe if we leave by an exception
  for (bool linked = false, more = true; more; linked = true) {
    Takers takers;
    for_each_candidate(desk, root, stripe, fields, [&](Waiter& waiter) { consider(desk, takers, waiter, fields); });
    if (!linked && comes) note_arrival(desk, root, tuple, fields);
    serve(desk, root, stripe, tuple, shape, fields, takers, linked);
    if (!linked) let_go();
    desk.commit();
    if (!linked && comes) ring_watches(desk, root, tuple);
    tell_answered(desk, takers);
    more = takers.more_readers;
    if (more) wake_answered(desk);
  }
  if (locks) desk.unlock(root.wild_lock);
}

// Nothing is written: who has left meanwhile may have given its bench back.
void wake_answered(Desk& desk) {
  Bench& mine = *desk.bench;
  for (uint32_t i = 0; i < mine.wake_count; ++i)
    if (mine.wakes[i]) wake_one(*desk.self.segment.at<std::atomic<uint32_t>>(mine.wakes[i]));
  compiler_barrier();
  mine.wake_count = 0;
}

bool put_into(Desk& desk, Root& root, Stripe& stripe, Ref tuple, TupleView fields, Comes comes, bool dropped,
              const std::function<void()>& let_go) {
  Stored& stored = stored_at(desk, tuple);
  if (root.state.load() != RootState::kLive || dropped) {
    let_go();
    discard(desk, tuple);
    return true;
  }
  Ref shape = shape_for(desk, stripe, fields);
  if (!shape) return false;
  if (comes == Comes::kNew) rehome(desk, stripe, stored);
  publish(desk, root, stripe, tuple, shape, fields, comes != Comes::kBack, let_go);
  return true;
}

}  // namespace godwit::store
