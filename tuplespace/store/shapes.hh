// The shapes that a stripe has seen: arity and field types, each with the queue of its tuples and its indexes.
//
// All here: the stripe's lock held.
#pragma once
#include "tuplespace/store/desk.hh"
#include "tuplespace/store/encoding.hh"

namespace godwit::store {

/// The record of the fields' shape, made if there is none; a transaction of its own, that uses the second hand.
/// returns 0 when the segment is full.
Ref shape_for(Desk& desk, Stripe& stripe, TupleView fields);

/// Forgets shapes without tuples, so many that not too many are left: transactions of their own, that use the second hand.
void trim_shapes(Desk& desk, Stripe& stripe);
/// Forgets all without tuples.
void clear_shapes(Desk& desk, Stripe& stripe);

bool may_match(const Shape& shape, TemplateView wanted);

/// Calls f(shape) for those that have tuples which may match.
template <class F>
void for_each_shape(Desk& desk, Stripe& stripe, TemplateView wanted, F f) {
  for (Ref list : stripe.shapes)
    for (Ref r = list; r; r = desk.at<Shape>(r).next)
      if (desk.at<Shape>(r).tuples && may_match(desk.at<Shape>(r), wanted)) f(r);
}

}  // namespace godwit::store
