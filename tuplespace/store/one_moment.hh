// Changes of several stripes that others see at one moment, also if the thread dies in between: whoever comes to a marked
// stripe after that has them finished first (Locked).
#pragma once
#include "tuplespace/store/root.hh"

namespace godwit::store {

/// Marks the stripes, which are locked while it lives.
class OneMoment {
 public:
  OneMoment(Desk& desk, std::vector<Stripe*> stripes);
  ~OneMoment();
  OneMoment(const OneMoment&) = delete;

 private:
  void mark(uint32_t owner);
  Desk& desk_;
  std::vector<Stripe*> stripes_;
};

/// Takes away the marks of a dead thread, all of whose changes are finished.
void clear_marks(Desk& desk, Bench& dead);

}  // namespace godwit::store
