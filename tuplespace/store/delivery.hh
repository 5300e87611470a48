// How tuples leave a space: taken (held), read (pinned), or on their way to another space (chained) on a thread's bench,
// from where they are delivered, or go back if the thread is killed.
#pragma once
#include <functional>

#include "tuplespace/store/root.hh"

namespace godwit::store {

/// Takes the tuple out of its stripe (locked) into Waiter::held.
void take_out(Desk& desk, Stripe& stripe, Ref tuple, Waiter& waiter);
/// What the waiter holds has been copied: it is no longer the space's.
void deliver(Desk& desk, Waiter& waiter);
/// Takes a tuple that is linked nowhere out of the segment, unless somebody reads it. forget: says in the same transaction
/// that whoever had it has it no more.
void discard_with_its_lock(Desk& desk, Ref tuple, const std::function<void()>& forget);
/// Lets the waiter read it.
void pin(Desk& desk, Ref tuple, Waiter& waiter);
/// Takes one pin off a tuple, wherever it is by now, and with the last its memory if it was taken. forget: says in the same
/// transaction that whoever had the pin has it no more.
void take_pin_off(Desk& desk, Ref tuple, const std::function<void()>& forget);

/// Takes the first tuple off a bench's chain and puts it where it belongs: to chain_space when that was decided, else
/// back by its age. Locks the spaces if they are not locked. false: no memory for its shape.
bool put_chained(Desk& desk, Bench& bench);

/// Ends what a waiter (ours; or a dead thread's) has in hand: reads no more, and puts back what it holds by its age.
/// false: no memory now; what is left is for another time.
bool settle(Desk& desk, Waiter& waiter) noexcept;
/// The same for a bench: also ends its chain.
bool settle(Desk& desk, Bench& bench) noexcept;

/// Takes the tuple (nobody's, linked nowhere) out of the segment, unless somebody reads it: then that one does so.
/// In a transaction of the caller's, which ends here.
void discard(Desk& desk, Ref tuple);

}  // namespace godwit::store
