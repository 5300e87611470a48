// A tuple comes to a stripe, locked: those who wait for it get it, or it is linked for who looks.
#pragma once
#include <functional>

#include "tuplespace/store/root.hh"

namespace godwit::store {

/// Gives the tuple to those who wait for it, and puts it into its stripe unless one of them takes it.
/// comes: it was not in the space before; else it comes back, which watches do not see.
/// let_go: takes it from whoever had it before, in the same transaction.
/// The waiters are to be woken after unlocking.
void publish(Desk& desk, Root& root, Stripe& stripe, Ref tuple, Ref shape, TupleView fields, bool comes,
             const std::function<void()>& let_go);
/// Wakes those who were answered.
void wake_answered(Desk& desk);

/// How a tuple comes to a space: back by its age; new to it, and its age with it; or new, with an age that it was given before,
/// which is above those of the stripe.
enum class Comes { kBack, kNew, kNewAtItsAge };
/// Publishes a tuple that was somewhere else before. False: no memory for its shape.
/// dropped: the space that it was for is no more, though its root may be another's: the tuple is discarded.
bool put_into(Desk& desk, Root& root, Stripe& stripe, Ref tuple, TupleView fields, Comes comes, bool dropped,
              const std::function<void()>& let_go);

}  // namespace godwit::store
