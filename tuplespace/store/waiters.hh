// The queues of blocked ins and rds.
//
// A wait whose templates all give the same first field stands in that field's stripe, in a queue by what else it gives
// (two fields, one, or the shape left open): so an out looks at three queues. Any other wait is wild: it stands in the
// root's one queue, which every out of the space looks at while it is not empty.
#pragma once
#include <functional>

#include "tuplespace/store/root.hh"

namespace godwit::store {

/// Writes the encoded templates of a wait or watch, into the first hand. False: no memory.
bool write_wanted(Desk& desk, std::span<const TemplateView> any_of);
std::string_view wanted_at(const Desk& desk, Ref wanted);
/// Whether such a tuple is wanted.
bool wants(Desk& desk, Ref wanted, TupleView fields);

/// Calls f for the waits that such a tuple may answer, in each queue the longest first.
/// The stripe's lock and the root's wild lock held.
void for_each_candidate(Desk& desk, Root& root, Stripe& stripe, TupleView fields, const std::function<void(Waiter& waiter)>& f);

/// A wait before it stands in a queue.
struct NewWait {
  Verb verb;
  uint32_t stripe;  // kStripes: a wild one
  std::span<const TemplateView> any_of;
  uint64_t ticket;  // when it began, on the processor's clock
};
/// Puts the calling thread's wait into its queue, in the caller's transaction. All locks that it needs held. The templates'
/// encoding is in the first hand.
void enqueue(Desk& desk, Root& root, Waiter& waiter, const NewWait& wait);

/// Calls f for all waits of the root, which is locked.
void for_each_wait(Desk& desk, Root& root, const std::function<void(const Waiter& waiter)>& f);
/// Every wait of the root, which is locked, ends without an answer; its thread sees that the space is gone.
void dismiss_waiters(Desk& desk, Root& root);

/// Takes a wait out of its queue. Its queue's lock held.
void unlink_waiter(Desk& desk, Root& root, Waiter& waiter);
/// Says that the wait is answered. Its queue's lock held, and the answer committed. returns whether its thread may sleep.
bool tell_answered(Desk& desk, Waiter& waiter);
/// Ends a wait (ours; or a dead thread's), whose queue is not locked, if it is one; it leaves the queue unless it was
/// answered.
void end_wait(Desk& desk, Waiter& waiter);

}  // namespace godwit::store
