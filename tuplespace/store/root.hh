// The root of a space, and its stripes under lock.
#pragma once
#include <span>

#include "tuplespace/store/desk.hh"
#include "tuplespace/store/encoding.hh"

namespace godwit::store {

Root& root_of(Desk& desk, uint32_t number);

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
  std::span<Stripe> stripes() const { return {root_.stripes + first_, root_.stripes + end_}; }
  Stripe& stripe() const { return root_.stripes[first_]; }

 private:
  Desk& desk_;
  Root& root_;
  uint32_t first_, end_, place_;
};

/// The age for a tuple that comes to the stripe (locked) now.
uint64_t next_age(Stripe& stripe);

/// Tells those who watch that a tuple may have come. They look with the stripe's lock.
void tell_watchers(Root& root);
/// Tells outs that wait for room.
void made_room(Root& root);

}  // namespace godwit::store
