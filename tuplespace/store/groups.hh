// Groups: the tuples of a shape that have the same key, the value of the one or two fields of an index. The oldest of
// them, the leader, stands in the table, the others queue behind it by age: so a look finds the oldest at once, and a
// tuple leaves from anywhere in constant time.
//
// All here: the stripe's lock held.
#pragma once
#include "tuplespace/store/shapes.hh"

namespace godwit::store {

struct Key {
  FieldView fields[2];
  uint32_t count;
  uint32_t hash;
};
/// second: null for an index of one field. i: the shape's index.
Key make_key(const Shape& shape, uint32_t i, const FieldView& first, const FieldView* second);

/// The oldest node of the key's group; 0: no tuple has it.
Ref leader(Desk& desk, Stripe& stripe, Ref shape, const Index& index, const Key& key);

/// In the caller's transaction: puts the tuple into its group of each index that has it; takes it out.
void link_groups(Desk& desk, Stripe& stripe, Ref tuple, Ref shape, TupleView fields);
void unlink_groups(Desk& desk, Stripe& stripe, Ref tuple);

/// Makes the index over those fields, if the shape has a place for one: a transaction a tuple. Uses the second hand.
/// returns whether there is one now.
bool make_index(Desk& desk, Stripe& stripe, Ref shape, uint32_t first, uint32_t second);
/// Goes on with indexes of the shape that whoever made them left half-made.
void finish_indexes(Desk& desk, Stripe& stripe, Ref shape);

}  // namespace godwit::store
