// The root of a space, and its stripes under lock.
#pragma once
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include "tuplespace/store/stored.hh"

namespace godwit::store {

Root& root_of(Desk& desk, uint32_t number);

inline std::string_view name_of(const Root& root) { return {root.name, strnlen(root.name, sizeof root.name)}; }
/// Calls f, in which damage is that of this space, unless f knows better.
template <class F>
auto blaming(Root& root, F f) {
  try {
    return f();
  } catch (Damaged& damage) {
    if (!damage.of) damage.of = &root;
    throw;
  }
}
/// From now on its operations say that it is damaged.
void close_damaged(Root& root);

/// The stripe of tuples with these fields.
uint32_t stripe_of(const Root& root, TupleView fields);
/// The only stripe that a match can be in; kStripes: any.
uint32_t stripe_of(const Root& root, std::span<const TemplateView> any_of);

/// Locks one stripe of a root (or, with kStripes, all, and the queue of wild waiters) while it lives; up to two at a time
/// on a thread, as they lie in the segment. Whatever the thread has not committed in the end is undone.
class Locked {
 public:
  Locked(Desk& desk, Root& root, uint32_t stripe, uint32_t place = 0);
  ~Locked();
  Locked(const Locked&) = delete;
  std::span<Stripe> stripes() const { return stripes_; }
  Stripe& stripe() const { return stripes_[0]; }

 private:
  Desk& desk_;
  Root& root_;
  std::span<Stripe> stripes_;
  uint32_t place_;
};

/// Two spaces, each wholly, or one if they are the same.
class LockedBoth {
 public:
  LockedBoth(Desk& desk, Root& a, Root& b);

 private:
  Locked first_;
  std::optional<Locked> second_;
};
inline std::span<Stripe> stripes_of(Root& root) { return {root.stripes, root.stripe_count}; }

/// The age for a tuple that comes to the stripe (locked) now.
uint64_t next_age(Stripe& stripe);

/// Tells outs that wait for room.
void made_room(Root& root);

}  // namespace godwit::store
