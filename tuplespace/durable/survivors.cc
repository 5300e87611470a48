#include "tuplespace/durable/survivors.hh"

#include <algorithm>

namespace godwit {

using store::Change;

void Survivors::note(const Change& change) {
  switch (change.kind) {
    case Change::kCreate: {
      std::erase_if(spaces_, [&](const auto& one) { return one.first != change.space && one.second.name == change.text; });
      Space& space = spaces_[change.space];
      space.name = change.text;
      space.options = change.options;
      break;
    }
    case Change::kDrop:
      spaces_.erase(change.space);
      break;
    case Change::kTake:
      ++taken_[{change.space, change.age}];
      break;
    case Change::kPut:
      if (auto space = spaces_.find(change.space); space != spaces_.end()) space->second.last_age = std::max(space->second.last_age, change.age);
      break;
  }
}

// A put is taken by a take behind it, each by one.
bool Survivors::keeps(const Change& change) {
  if (change.kind != Change::kPut || !spaces_.contains(change.space)) return false;
  auto taken = taken_.find({change.space, change.age});
  if (taken == taken_.end()) return true;
  if (--taken->second == 0) taken_.erase(taken);
  return false;
}

}  // namespace godwit
