// Leases: what happens to a tuple at a time. A stripe keeps its own by that time, and the node's reaper sees to it (expire).
//
//   mortal tuple   it is in the space until then. Nobody finds it later, also if nobody has come to take it away.
//   delivery       a thread has taken it until then: it acknowledges, and the tuple is gone; or it gives it back, or ends, or
//                  the time is over: then the tuple is back at its place, or comes there after a delay
// A delivery has a number, larger than all before of that tuple: by it a late acknowledgement is told from one in time.
//
// All here but expire, deliver_for and those that take a Delivery: the stripe's lock held.
#pragma once
#include <chrono>

#include "tuplespace/result.hh"
#include "tuplespace/store/root.hh"

namespace godwit::store {

using Time = std::chrono::nanoseconds;
/// On the host's monotonic clock, that long from now on.
uint64_t due_after(Time time);

// --- mortal tuples ---

/// Bytes that the tuple's block needs beyond its data.
uint64_t mortal_tail(uint64_t length);
/// Says in a new tuple, in no space yet, when it goes, and gives it a lease, which is in the third hand until the tuple is shown to
/// others. False: no memory.
bool make_mortal(Desk& desk, Stored& stored, uint64_t due);
uint64_t due_of(const Desk& desk, const Stored& stored);
bool is_over(const Desk& desk, const Stored& stored);
/// Part of link and unlink (index.hh).
void link_lease(Desk& desk, Stripe& stripe, Ref tuple);
void unlink_lease(Desk& desk, Stripe& stripe, Ref tuple);
/// The tuple's memory is to be given back: its lease goes into the third hand, if it is mortal. In the caller's transaction.
void pick_up_lease(Desk& desk, const Stored& stored);

// --- deliveries ---

struct Delivery {
  Ref lease = 0;
  uint32_t stripe = 0;
  uint64_t number = 0;
};
/// What the waiter holds is taken for that time. nullopt: no memory.
std::optional<Delivery> deliver_for(Desk& desk, Waiter& waiter, Time time);
/// The tuple is gone; with a transaction, once that commits. False: the delivery is over, and the tuple is back or another's.
bool acknowledge(Desk& desk, Root& root, const Delivery& delivery, Transaction* transaction = nullptr);
/// It comes back after that time.
bool release(Desk& desk, Root& root, const Delivery& delivery, Time delay);
/// The delivery lasts that long from now on.
bool extend(Desk& desk, Root& root, const Delivery& delivery, Time time);

/// Ends all deliveries of that owner (ours; or a dead thread's). false: no memory now; what is left is for another time.
bool end_deliveries(Desk& desk, Bench& bench);
/// Of a stripe that is emptied, once no tuple is linked.
void clear_leases(Desk& desk, Stripe& stripe);

// --- time ---

/// As the timer is now; before expire.
uint32_t timer_mark(const shared::Segment& segment);
/// Sees to all that is due. returns when the next is.
uint64_t expire(Desk& desk);
/// Sleeps until then, or until something is due sooner, or the timer is woken, since the mark; at most that long.
void await_due(const shared::Segment& segment, uint32_t mark, uint64_t due, Time at_most);
void wake_timer(const shared::Segment& segment);

}  // namespace godwit::store
