// What the operations of a store are made of: locked stripes, publishing with hand-over to waiters, taking, delivering.
#pragma once
#include <string>

#include "tuplespace/store/index.hh"

namespace godwit::store {

/// The stripe of tuples with these fields.
uint32_t stripe_of(const Root& root, TupleView fields);
/// The only stripe that a match can be in; kStripes: any.
uint32_t stripe_of(const Root& root, std::span<const TemplateView> any_of);

/// Locks one stripe of a root (or, with kStripes, all, and the queue of wild waiters) while it lives; up to two at a time
/// on a thread, by root and stripe ascending. Whatever the thread has not committed in the end is undone.
class Locked {
 public:
  Locked(Desk& desk, Root& root, uint32_t stripe, uint32_t place = 0);
  ~Locked();
  Locked(const Locked&) = delete;
  Stripe* begin() const { return root_.stripes + first_; }
  Stripe* end() const { return root_.stripes + end_; }

 private:
  Desk& desk_;
  Root& root_;
  uint32_t first_, end_, place_;
};

/// Gives the tuple to those who wait for it, and puts it into its stripe (locked) unless one of them takes it.
/// let_go: takes it from whoever had it before, in the same transaction.
/// The waiters are to be woken after unlocking.
void publish(Desk& desk, Root& root, Stripe& stripe, Ref tuple, Ref shape, TupleView fields,
             const std::function<void()>& let_go);
/// Wakes those who were answered.
void wake_answered(Desk& desk);

/// Makes the tuple, which is linked nowhere, one of that stripe (locked), to be its newest: a transaction.
void rehome(Desk& desk, Root& root, uint32_t stripe, Stored& stored);

/// The age for a tuple that comes to the stripe (locked) now.
uint64_t next_age(Stripe& stripe);

/// Takes the tuple out of its stripe (locked) into Bench::held.
void take_out(Desk& desk, Stripe& stripe, Ref tuple);
/// What the bench holds has been copied: it is no longer the space's.
void deliver(Desk& desk);
/// Puts back what a bench (a dead thread's; or ours) holds, by its age. false: no memory for its shape.
bool put_back_held(Desk& desk, Bench& bench);

/// Takes the first tuple off a bench's chain and puts it where it belongs: to chain_space when that was decided, else
/// back by its age. Locks it if it is not locked. false: no memory for its shape.
bool put_chained(Desk& desk, Bench& bench);

void pin(Desk& desk, Ref tuple);
/// Ends the reading of what a bench (ours; or a dead thread's) has pinned.
void unpin(Desk& desk, Bench& bench);

/// Takes the tuple (nobody's, linked nowhere) out of the segment, unless somebody reads it: then that one does so.
/// In a transaction of the caller's, which ends here.
void discard(Desk& desk, Ref tuple);

Root& root_of(Desk& desk, uint32_t number);
/// Tells those who watch that a tuple may have come. They look with the stripe's lock.
void tell_watchers(Root& root);

/// Tells outs that wait for room.
void made_room(Root& root);

/// Takes a wait out of its queue. Its queue's lock held.
void unlink_waiter(Desk& desk, Root& root, Bench& bench);

/// Reaps every dead thread, of spaces and else. returns how many. Waits for locks of spaces.
uint32_t reap(Desk& desk);

}  // namespace godwit::store
