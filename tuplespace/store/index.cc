#include "tuplespace/store/index.hh"

#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/leases.hh"
#include "tuplespace/store/table.hh"

namespace godwit::store {

namespace {

// The link that leads to what follows `before`, or precedes `after`, in a shape's queue. 0: the queue's end.
Ref& following(Desk& desk, Stripe& stripe, Shape& shape, Ref before) {
  return before ? stored_in(desk, stripe, before).newer : shape.oldest;
}
Ref& preceding(Desk& desk, Stripe& stripe, Shape& shape, Ref after) {
  return after ? stored_in(desk, stripe, after).older : shape.newest;
}

// The tuple after which one of that age belongs: nearly always the newest. By the ages the walk ends.
Ref place_for(Desk& desk, Stripe& stripe, Shape& shape, uint64_t age) {
  Ref before = shape.newest;
  for (uint64_t last = ~0ull; before; before = stored_at(desk, before).older) {
    uint64_t next = stored_in(desk, stripe, before).age;
    expect(next < last);
    if (next < age) break;
    last = next;
  }
  return before;
}

}  // namespace

void link(Desk& desk, Stripe& stripe, Ref tuple, Ref shape_ref, TupleView fields) {
  Shape& shape = shape_in(desk, stripe, shape_ref);
  Stored& stored = stored_in(desk, stripe, tuple);
  Ref before = place_for(desk, stripe, shape, stored.age);
  Ref& from_before = following(desk, stripe, shape, before);
  Ref& from_after = preceding(desk, stripe, shape, from_before);
  expect(from_after == before);
  stored.older = before;
  desk.set(&stored.shape, shape_ref);
  desk.set(&stored.newer, from_before);
  desk.set(&from_before, tuple);
  desk.set(&from_after, tuple);
  link_groups(desk, stripe, tuple, shape_ref, fields);
  desk.set(&shape.tuples, shape.tuples + 1);
  desk.set(&stripe.tuples, stripe.tuples + 1);
  desk.set(&stripe.bytes, stripe.bytes + memory_of(desk, tuple));
  if (stored.pins & kMortal) link_lease(desk, stripe, tuple);
}

void unlink(Desk& desk, Stripe& stripe, Ref tuple) {
  Stored& stored = stored_in(desk, stripe, tuple);
  Shape& shape = shape_in(desk, stripe, stored.shape);
  unlink_groups(desk, stripe, tuple);
  Ref& from_before = following(desk, stripe, shape, stored.older);
  Ref& from_after = preceding(desk, stripe, shape, stored.newer);
  expect(from_before == tuple && from_after == tuple);
  desk.set(&from_before, stored.newer);
  desk.set(&from_after, stored.older);
  desk.set(&shape.tuples, shape.tuples - 1);
  desk.set(&stripe.tuples, stripe.tuples - 1);
  desk.set(&stripe.bytes, stripe.bytes - memory_of(desk, tuple));
  if (stored.pins & kMortal) unlink_lease(desk, stripe, tuple);
}

void balance(Desk& desk, Stripe& stripe) {
  trim_shapes(desk, stripe);
  balance_table(desk, stripe);
}

void clear(Desk& desk, Stripe& stripe) {
  clear_shapes(desk, stripe);
  clear_table(desk, stripe);
}

}  // namespace godwit::store
