// How a stripe keeps its tuples: by shape, then by the value of the fields that templates of that shape give.
//
// A shape's tuples stand in a queue by age. Which fields its templates give nobody knows beforehand: so an index over
// one or two fields is made when a look has passed over too many tuples, and kept up from then on (at most kIndexes of
// a shape).
//
// All here: the stripe's lock held.
#pragma once
#include "tuplespace/store/groups.hh"
#include "tuplespace/store/shapes.hh"

namespace godwit::store {

/// Puts a tuple of that shape, which is nobody's, into its queue and indexes, by its age; in the caller's transaction.
void link(Desk& desk, Stripe& stripe, Ref tuple, Ref shape, TupleView fields);
/// Takes it out of them.
void unlink(Desk& desk, Stripe& stripe, Ref tuple);

/// Lets the hash table follow the number of keys, and forgets shapes of old: a few steps, each a transaction of its own,
/// that use the second hand.
void balance(Desk& desk, Stripe& stripe);

/// Gives back what an empty stripe keeps.
void clear(Desk& desk, Stripe& stripe);

}  // namespace godwit::store
