// out, alone and on conditions.
#include "tuplespace/store/index.hh"
#include "tuplespace/store/look.hh"
#include "tuplespace/store/publish.hh"
#include "tuplespace/store/store_work.hh"

namespace godwit::store {

Result<void> Store::out(TupleView tuple, const Wait* wait) { return put(tuple, std::nullopt, wait); }
Result<void> Store::out_for(Time time, TupleView tuple, const Wait* wait) { return put(tuple, due_after(time), wait); }

Result<void> Store::put(TupleView tuple, std::optional<uint64_t> due, const Wait* wait) {
  uint64_t length = encoded_size(tuple);
  if (auto no = too_large(tuple, length)) return *no;
  return work<void>([&](Desk& desk) -> Result<void> {
    if (is_durable())
      return until_there_is_room(wait, [&] {
        return error_of(durably<void>(desk, [&](Transaction& own) { return out_within(own, tuple, {0, due.value_or(0)}); }));
      });
    uint32_t stripe = stripe_of(*root_, tuple);
    return until_there_is_room(wait, [&] { return put_once(desk, stripe, tuple, length, due); });
  });
}

Result<void> Store::out_within(Transaction& transaction, TupleView tuple, const Lifetime& lifetime) {
  uint64_t length = encoded_size(tuple);
  if (auto no = too_large(tuple, length)) return *no;
  return work<void>([&](Desk& desk) -> Result<void> {
    if (auto no = closed()) return *no;
    uint64_t tail = lifetime.due ? mortal_tail(length) : 0;
    if (!write_tuple(desk, *root_, stripe_of(*root_, tuple), tuple, length, tail)) return segment_full();
    Stored& stored = stored_at(desk, desk.bench->in_hand[kFirstHand]);
    if (lifetime.is_logged) stored.pins = kLogged;
    if (lifetime.due && !make_mortal(desk, stored, lifetime.due)) return give(desk, kFirstHand), segment_full();
    add_put(desk, transaction, generation_, lifetime.age);
    return {};
  });
}

Result<bool> Store::out_if(Condition condition, std::span<const TemplateView> any_of, TupleView tuple) {
  uint64_t length = encoded_size(tuple);
  if (auto no = too_large(tuple, length)) return *no;
  if (auto no = refuse(any_of)) return *no;
  return work<bool>([&](Desk& desk) -> Result<bool> {
    if (is_durable()) return put_if_durably(desk, condition, any_of, tuple);
    if (!is_settled(desk) || !write_tuple(desk, *root_, stripe_of(*root_, tuple), tuple, length)) return segment_full();
    auto put = put_if(desk, condition, any_of, tuple);
    for (Hand hand : {kFirstHand, kSecondHand, kThirdHand}) give(desk, hand);
    wake_answered(desk);
    made_room(*root_);
    return put;
  });
}

namespace {

// In the caller's transaction: the tuple goes from its stripe into the second hand, or to who reads it last.
void take_away(Desk& desk, Stripe& stripe, Ref tuple) {
  unlink(desk, stripe, tuple);
  Stored& stored = stored_at(desk, tuple);
  if (stored.pins & ~kNoPins) desk.set(&stored.pins, stored.pins | kTaken);
  else pick_up(desk, kSecondHand, tuple), pick_up_lease(desk, stored);
}

}  // namespace

// What is in the first hand. The tuple whose place it takes is in the second one then, unless somebody reads it.
Result<bool> Store::put_if(Desk& desk, Condition condition, std::span<const TemplateView> any_of, TupleView tuple) {
  Stored& stored = stored_at(desk, desk.bench->in_hand[kFirstHand]);
  bool alone = stripe_of(*root_, any_of) == stored.place.stripe;
  Locked locked(desk, *root_, alone ? stored.place.stripe : kStripes);
  Stripe& stripe = alone ? locked.stripe() : root_->stripes[stored.place.stripe];
  if (auto no = closed()) return *no;
  Found found = find(desk, locked.stripes(), any_of);
  if ((condition == Condition::kInstead) != (found.tuple != 0)) return false;
  uint64_t memory = memory_of(desk, desk.bench->in_hand[kFirstHand]), freed = found.tuple ? memory_of(desk, found.tuple) : 0;
  if (root_->capacity && stripe.bytes + memory - freed > root_->capacity) return no_room(*root_, memory);
  Ref shape = shape_for(desk, stripe, tuple);
  if (!shape) return segment_full();
  stored.age = next_age(stripe);
  publish(desk, *root_, stripe, desk.bench->in_hand[kFirstHand], shape, tuple, true, [&] {
    put_down(desk, kFirstHand);
    if (found.tuple) take_away(desk, *found.stripe, found.tuple);
  });
  return true;
}

Result<bool> Store::put_if_durably(Desk& desk, Condition condition, std::span<const TemplateView> any_of, TupleView tuple) {
  return durably<bool>(desk, [&](Transaction& own) -> Result<bool> {
    if (auto put = out_within(own, tuple); !put) return put.error();
    auto happened = commit_if(condition, any_of, own);
    if (happened && !*happened && !conclude(desk, own)) return segment_full();
    return happened;
  });
}

std::optional<Error> Store::put_once(Desk& desk, uint32_t number, TupleView tuple, uint64_t length, std::optional<uint64_t> due) {
  if (!write_tuple(desk, *root_, number, tuple, length, due ? mortal_tail(length) : 0)) return segment_full();
  Ref ref = desk.bench->in_hand[kFirstHand];
  Stored& stored = stored_at(desk, ref);
  if (due && !make_mortal(desk, stored, *due)) return give(desk, kFirstHand), segment_full();
  std::optional<Error> no;
  {
    Locked locked(desk, *root_, number);
    Stripe& stripe = locked.stripe();
    no = closed();
    uint64_t memory = memory_of(desk, ref);
    bool fits = !root_->capacity || stripe.bytes + memory <= root_->capacity;
    Ref shape = !no && fits ? shape_for(desk, stripe, tuple) : 0;
    if (shape) {
      stored.age = next_age(stripe);
      publish(desk, *root_, stripe, ref, shape, tuple, true, [&] {
        put_down(desk, kFirstHand);
        if (due) put_down(desk, kThirdHand);
      });
      balance(desk, stripe);
    } else if (!no) {
      no = fits ? segment_full() : no_room(*root_, memory);
    }
  }
  give(desk, kFirstHand);
  if (due) give(desk, kThirdHand);
  wake_answered(desk);
  return no;
}

}  // namespace godwit::store
