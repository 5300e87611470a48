#include "tuplespace/store/index.hh"

#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/table.hh"

namespace godwit::store {

void link(Desk& desk, Stripe& stripe, Ref tuple, Ref shape_ref, TupleView fields) {
  Shape& shape = desk.at<Shape>(shape_ref);
  Stored& stored = stored_at(desk, tuple);
  desk.set(&stored.shape, shape_ref);
  Ref before = shape.newest;
  while (before && stored_at(desk, before).age > stored.age) before = stored_at(desk, before).older;
  Ref after = before ? stored_at(desk, before).newer : shape.oldest;
  stored.older = before;
  desk.set(&stored.newer, after);
  desk.set(before ? &stored_at(desk, before).newer : &shape.oldest, tuple);
  desk.set(after ? &stored_at(desk, after).older : &shape.newest, tuple);
  link_groups(desk, stripe, tuple, shape_ref, fields);
  desk.set(&shape.tuples, shape.tuples + 1);
  desk.set(&stripe.tuples, stripe.tuples + 1);
  desk.set(&stripe.bytes, stripe.bytes + memory_of(desk, tuple, stored.place.size_class));
}

void unlink(Desk& desk, Stripe& stripe, Ref tuple) {
  Stored& stored = stored_at(desk, tuple);
  Shape& shape = desk.at<Shape>(stored.shape);
  unlink_groups(desk, stripe, tuple);
  desk.set(stored.older ? &stored_at(desk, stored.older).newer : &shape.oldest, stored.newer);
  desk.set(stored.newer ? &stored_at(desk, stored.newer).older : &shape.newest, stored.older);
  desk.set(&shape.tuples, shape.tuples - 1);
  desk.set(&stripe.tuples, stripe.tuples - 1);
  desk.set(&stripe.bytes, stripe.bytes - memory_of(desk, tuple, stored.place.size_class));
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
