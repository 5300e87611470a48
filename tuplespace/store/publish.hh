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

/// Publishes a tuple that was in a space before. False: no memory for its shape.
/// as_newest: it comes to this space anew; else it goes back by its age.
/// dropped: the space that it was for is no more, though its root may be another's: the tuple is discarded.
bool put_into(Desk& desk, Root& root, Stripe& stripe, Ref tuple, TupleView fields, bool as_newest, bool dropped,
              const std::function<void()>& let_go);

}  // namespace godwit::store
