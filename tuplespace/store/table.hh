// The hash table of a stripe, which all its indexes share: it grows and shrinks a bucket at a time (linear hashing,
// Litwin 1980). In it stand leaders, the oldest of the tuples with one key (groups.hh), chained where they meet.
//
// All here: the stripe's lock held.
#pragma once
#include "tuplespace/store/desk.hh"

namespace godwit::store {

/// Makes the table, if there is none: a transaction of its own, that uses the second hand. False: the segment is full.
bool make_table(Desk& desk, Stripe& stripe);

/// Where the leaders with that hash are chained. The table is made.
Bucket& bucket_for(Desk& desk, Stripe& stripe, uint32_t hash);
/// In the caller's transaction: puts a leader there, takes one away, puts `next` in the place of `leader`.
void add_to_chain(Desk& desk, Stripe& stripe, Ref leader);
void remove_from_chain(Desk& desk, Stripe& stripe, Ref leader);
void replace_in_chain(Desk& desk, Stripe& stripe, Ref leader, Ref next);

/// Lets the table follow the number of leaders: a few steps, each a transaction of its own, that use the second hand.
void balance_table(Desk& desk, Stripe& stripe);
/// Gives it back; it is empty.
void clear_table(Desk& desk, Stripe& stripe);

}  // namespace godwit::store
