// The root of a space, and its stripes under lock.
#pragma once
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "tuplespace/store/stored.hh"

namespace godwit::store {

Root& root_of(Desk& desk, uint32_t number);
/// f(root) for all that there are, in use or not.
template <class F>
void for_each_root(Desk& desk, F f) {
  for (shared::Offset offset : desk.header().spaces)
    if (offset) f(*desk.self.segment.at<Root>(offset));
}

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

/// A stripe of a root; kStripes: all, and the queue of wild waiters.
struct Range {
  Root* root;
  uint32_t stripe;
};

/// What a range is made of.
struct LockedPart {
  Root* root;
  std::span<Stripe> stripes;
  bool whole;
};

/// Locks a stripe or all of a root while it lives. Whatever the thread has not committed in the end is undone. What somebody
/// was about to change at one moment when he died, is finished first.
class Locked {
 public:
  Locked(Desk& desk, Root& root, uint32_t stripe);
  ~Locked();
  Locked(const Locked&) = delete;
  std::span<Stripe> stripes() const { return part_.stripes; }
  Stripe& stripe() const { return part_.stripes[0]; }

 private:
  Desk& desk_;
  LockedPart part_;
};

/// The same with a stripe or all of each of several roots, each but once, in the order in which they lie in the segment.
class LockedRanges {
 public:
  LockedRanges(Desk& desk, std::span<const Range> ranges);
  ~LockedRanges();
  LockedRanges(const LockedRanges&) = delete;

 private:
  Desk& desk_;
  std::vector<LockedPart> parts_;
};

/// Two spaces, each wholly, or one if they are the same.
inline std::vector<Range> ranges_of(Root& a, Root& b) {
  return &a == &b ? std::vector<Range>{{&a, kStripes}} : std::vector<Range>{{&a, kStripes}, {&b, kStripes}};
}
inline std::span<Stripe> stripes_of(Root& root) { return {root.stripes, root.stripe_count}; }

/// The age for a tuple that comes to the stripe (locked) now.
uint64_t next_age(Stripe& stripe);

/// Tells outs that wait for room.
void made_room(Root& root);

}  // namespace godwit::store
