// The shapes that a stripe has seen: arity and field types, each with the queue of its tuples and its indexes.
//
// All here: the stripe's lock held.
#pragma once
#include <bit>

#include "tuplespace/store/stored.hh"

namespace godwit::store {

/// The record of the fields' shape, made if there is none; a transaction of its own, that uses the second hand.
/// returns 0 when the segment is full.
Ref shape_for(Desk& desk, Stripe& stripe, TupleView fields);

/// Forgets shapes without tuples, so many that not too many are left: transactions of their own, that use the second hand.
void trim_shapes(Desk& desk, Stripe& stripe);
/// Forgets all without tuples.
void clear_shapes(Desk& desk, Stripe& stripe);

/// A shape of the stripe that a list of it, or a tuple, leads to.
inline Shape& shape_in(const Desk& desk, const Stripe& stripe, Ref ref) {
  Shape& shape = desk.at<Shape>(ref);
  expect(shape.place == stripe.place);
  return shape;
}

/// Calls f(ref, shape) for all.
template <class F>
void for_each_shape(Desk& desk, Stripe& stripe, F f) {
  Steps steps(desk, stripe.shape_count);
  for (uint32_t lists = stripe.shape_lists; lists; lists &= lists - 1)
    for (Ref r = stripe.shapes[std::countr_zero(lists)], next; r; r = next) {
      Shape& shape = shape_in(desk, stripe, r);
      steps.take();
      next = shape.next;
      f(r, shape);
    }
}

bool may_match(const Desk& desk, const Shape& shape, TemplateView wanted);

}  // namespace godwit::store
