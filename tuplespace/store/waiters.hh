// The queues of blocked ins and rds.
//
// A wait whose templates all give the same first field stands in that field's stripe, in a queue by what else it gives
// (two fields, one, or the shape left open): so an out looks at three queues. Any other wait is wild: it stands in the
// root's one queue, which every out of the space looks at while it is not empty.
#pragma once
#include <functional>

#include "tuplespace/store/root.hh"

namespace godwit::store {

/// The encoded templates of a wait.
std::string_view wanted_of(const Desk& desk, const Bench& bench);
/// Whether the waiting thread wants such a tuple.
bool wants(Desk& desk, const Bench& bench, TupleView fields);

/// Calls f(owner, bench) for the waits that such a tuple may answer, in each queue the longest first.
/// The stripe's lock and the root's wild lock held.
void for_each_candidate(Desk& desk, Root& root, Stripe& stripe, TupleView fields,
                        const std::function<void(uint32_t owner, const Bench& bench)>& f);

/// Puts the calling thread's wait into its queue. stripe: kStripes for a wild one; all locks that it needs held.
/// The templates' encoding is in the first hand. ticket: when it began, on the processor's clock.
void enqueue(Desk& desk, Root& root, uint32_t stripe, Verb verb, std::span<const TemplateView> any_of, uint64_t ticket);

/// Calls f for all waits of the root, which is locked.
void for_each_wait(Desk& desk, Root& root, const std::function<void(const Bench& bench)>& f);
/// Every wait of the root, which is locked, ends without an answer; its thread sees that the space is gone.
void dismiss_waiters(Desk& desk, Root& root);

/// Takes a wait out of its queue. Its queue's lock held.
void unlink_waiter(Desk& desk, Root& root, Bench& bench);
/// Ends the wait of a bench (ours; or a dead thread's), whose queue is not locked, if it has one; it leaves the queue
/// unless it was answered.
void end_wait(Desk& desk, Bench& bench);

}  // namespace godwit::store
