#include "tuplespace/store/one_moment.hh"

#include <algorithm>

#include "tuplespace/shared/recovery.hh"

namespace godwit::store {
namespace {

constexpr uint32_t kOneTransaction = shared::kUndoEntries / 2;

}  // namespace

OneMoment::OneMoment(Desk& desk, std::vector<Stripe*> stripes) : desk_(desk), stripes_(std::move(stripes)) {
  std::sort(stripes_.begin(), stripes_.end());
  stripes_.erase(std::unique(stripes_.begin(), stripes_.end()), stripes_.end());
  // What a dead thread has marked stays so, until what it was at is finished.
  std::erase_if(stripes_, [](const Stripe* stripe) { return stripe->committing != 0; });
  desk.bench->marks = 1;
  shared::compiler_barrier();
  mark(desk.owner());
}

OneMoment::~OneMoment() {
  if (desk_.slot().undo_count) shared::roll_back(desk_.self.segment, desk_.slot());
  mark(0);
  shared::compiler_barrier();
  desk_.bench->marks = 0;
}

void OneMoment::mark(uint32_t owner) {
  for (size_t i = 0; i < stripes_.size(); ++i) {
    desk_.set(&stripes_[i]->committing, owner);
    if (i % kOneTransaction == 0) desk_.commit();
  }
  desk_.commit();
}

void clear_marks(Desk& desk, Bench& dead) {
  if (!dead.marks) return;
  for_each_root(desk, [&](Root& root) {
    for (uint32_t i = 0; i < kStripes; ++i) {
      if (root.stripes[i].committing != dead.owner) continue;
      Locked locked(desk, root, i);
      desk.set(&locked.stripe().committing, 0u);
      desk.commit();
    }
  });
  dead.marks = 0;
}

}  // namespace godwit::store
