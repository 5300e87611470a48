// How a stripe finds its tuples: by shape, then by the value of the fields that templates of that shape give.
//
// A shape's tuples stand in a queue by age. Which fields its templates give nobody knows beforehand: so an index over
// one or two fields is made when a look has passed over too many tuples, and kept up from then on (at most kIndexes of
// a shape). All indexes of a stripe share one hash table, which grows and shrinks a bucket at a time (linear hashing,
// Litwin 1980). Of tuples with equal keys the oldest stands in the table, the others queue behind it: so a look finds
// the oldest at once, and a tuple leaves from anywhere in constant time.
//
// All here: the stripe's lock held.
#pragma once
#include <functional>

#include "tuplespace/store/desk.hh"
#include "tuplespace/store/encoding.hh"

namespace godwit::store {

Stored& stored_at(const Desk& desk, Ref ref);
inline std::string_view encoding_of(const Stored& stored) { return {stored.data, stored.length}; }

/// The record of the fields' shape, made if there is none; a transaction of its own, that uses the second hand.
/// returns 0 when the segment is full.
Ref shape_for(Desk& desk, Stripe& stripe, TupleView fields);

/// Puts a tuple of that shape, which is nobody's, into its queue and indexes, by its age; in the caller's transaction.
void link(Desk& desk, Stripe& stripe, Ref tuple, Ref shape, TupleView fields);
/// Takes it out of them.
void unlink(Desk& desk, Stripe& stripe, Ref tuple);

/// The oldest tuple that matches; 0: none. May make an index: transactions of its own.
Ref find(Desk& desk, Stripe& stripe, TemplateView wanted);

/// Calls f(tuple, fields) for those that match, shape by shape, oldest first, until it returns false.
void for_each_match(Desk& desk, Stripe& stripe, TemplateView wanted, const std::function<bool(Ref, TupleView)>& f);

/// How many match. Does not look at tuples where their shape says it all.
uint64_t count(Desk& desk, Stripe& stripe, TemplateView wanted);

/// Lets the hash table follow the number of keys, and forgets shapes of old: a few steps, each a transaction of its own,
/// that use the second hand.
void balance(Desk& desk, Stripe& stripe);

/// Gives back what an empty stripe keeps.
void clear(Desk& desk, Stripe& stripe);

}  // namespace godwit::store
