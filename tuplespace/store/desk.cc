#include "tuplespace/store/desk.hh"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <vector>

#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/futex.hh"
#include "tuplespace/shared/recovery.hh"
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/delivery.hh"
#include "tuplespace/store/leases.hh"
#include "tuplespace/store/requests.hh"
#include "tuplespace/store/transactions.hh"
#include "tuplespace/store/watches.hh"

namespace godwit::store {
namespace {

using namespace shared;

std::atomic<uint64_t> forks = 0;
void note_fork() { forks.fetch_add(1); }

// The desk that the thread used last: found without a call.
struct LastUsed {
  const char* base = nullptr;
  Desk* desk = nullptr;
  uint64_t made_after_forks = 0;
};
[[gnu::tls_model("initial-exec")]] constinit thread_local LastUsed last_used;
constinit thread_local bool over = false;  // the thread's desks are gone, and what is destroyed after them has none

// A thread's desks, one a segment. What a forking thread had is its own and not the child's, who forgets it.
struct Desks {
  std::vector<std::unique_ptr<Desk>> all;
  uint64_t made_after_forks = 0;

  // After a fork they are the parent's.
  void forget_parents() {
    if (made_after_forks == forks.load(std::memory_order_relaxed)) return;
    for (auto& desk : all) desk->self.slot = nullptr;
    all.clear();
    made_after_forks = forks;
  }
  ~Desks() {
    forget_parents();
    over = true;
    last_used = {};
  }
};

// Of a dead owner, under kRecovery.
void release_spaces(Thread& self, uint32_t owner) {
  const Segment& segment = self.segment;
  Slot& slot = segment.slot_of(owner);
  if (!slot.bench) return;
  Bench& bench = *segment.at<Bench>(slot.bench);
  for (uint32_t number = 0; number < kSpaces; ++number) {
    if (!(bench.spaces_in_hand[number / 64] >> number % 64 & 1) || !segment.header().spaces[number]) continue;
    Root& root = *segment.at<Root>(segment.header().spaces[number]);
    free_lock_of(owner, root.wild_lock);
    for (Stripe& stripe : root.stripes) free_lock_of(owner, stripe.lock);
  }
  // It may have answered them and not come to wake them. Who was not answered sees that and sleeps again. Nothing is
  // written: who was woken already may have left, and given its bench back.
  for (uint32_t i = 0; i < bench.wake_count && i < kWakes; ++i)
    if (Offset word = bench.wakes[i]; word && word < segment.header().size && word % sizeof(uint32_t) == 0)
      wake_one(*segment.at<std::atomic<uint32_t>>(word));
}

}  // namespace

void release_dead(Thread& self, uint32_t owner) { shared::release_dead(self, owner, release_spaces); }

Result<Desk*> Desk::of(const Segment& segment) {
  if (last_used.base == segment.base() && last_used.made_after_forks == forks.load(std::memory_order_relaxed)) return last_used.desk;
  auto desk = find(segment);
  if (desk) last_used = {segment.base(), *desk, forks};
  return desk;
}

Result<Desk*> Desk::find(const Segment& segment) {
  if (over) return make_error(std::errc::operation_not_permitted, "the thread has ended, and its standing in the segment with it");
  static thread_local Desks desks;
  desks.forget_parents();
  for (auto& desk : desks.all)
    if (desk->self.segment.base() == segment.base()) return desk.get();
  static const int registered = pthread_atfork(nullptr, nullptr, note_fork);
  (void)registered;
  std::unique_ptr<Desk> desk(new Desk);
  if (int e = desk->join(segment); e == -EUSERS)
    return make_error(std::errc::too_many_files_open_in_system, "as many threads as a host can have use its spaces; end some");
  else if (e)
    return make_error(std::errc::no_space_on_device, "the segment is full; take tuples, drop spaces or make room in /dev/shm");
  desks.all.push_back(std::move(desk));
  return desks.all.back().get();
}

int Desk::join(const Segment& segment) {
  self.segment = segment;
  low_ = uint64_t{segment.header().first_chunk} * (kChunk / kUnit);
  if (int e = claim_slot(self, segment.area_of(0))) return e;
  owner_ = self.owner();
  Offset run;
  if (int e = allocate(self, sizeof(Bench), RunKind::kBench, 0, &run)) return e;
  Bench* made = segment.at<Bench>(run);
  if (reserve(made, sizeof *made) != 0) {
    free_intent(self);
    return -ENOSPC;
  }
  std::memset(static_cast<void*>(made), 0, sizeof *made);
  made->spin_credit = 4;
  made->owner = made->waiter.owner = self.owner();
  made->waiter.self = ref_of(&made->waiter);
  slot().pid = static_cast<uint32_t>(getpid());
  set(&slot().bench, run);
  set(&slot().intent, Offset{0});
  commit();
  bench = made;
  wake_timer(segment);  // who sees to the dead watches this process from now on
  return 0;
}

Desk::~Desk() {
  if (!self.slot) return;
  // What cannot be put back now, for want of memory, goes with the slot to whoever reaps it.
  if (bench && !settle(*this, *bench)) return;
  if (bench) {
    try {
      if (!end_requests(*this, *bench) || !end_transactions(*this, *bench) || !end_deliveries(*this, *bench)) return;
      end_watches_of(*this, owner());
      flush_all(*this, *bench);
    } catch (const Damaged&) {
      empty_hands(*this);  // the caches' blocks are lost
    }
    bench->waiter.self = 0;
    set(&slot().intent, slot().bench);
    set(&slot().bench, Offset{0});
    commit();
    free_intent(self);
  }
  release_slot(self);
}

Slot& Desk::slot_of(uint32_t owner) const {
  uint32_t index = slot_index_of(owner);
  if (member_of(owner) != 0 || index == 0 || index >= self.segment.area_of(0)->slot_count.load(std::memory_order_relaxed)) throw Damaged();
  return self.segment.slot_of(owner);
}

Bench* Desk::bench_of(uint32_t owner) const {
  Slot& other = slot_of(owner);
  Offset offset = __atomic_load_n(&other.bench, __ATOMIC_ACQUIRE);
  return offset && is_of(owner, other.generation) ? self.segment.at<Bench>(offset) : nullptr;
}

bool Desk::is_dead(uint32_t owner) const { return slot_of(owner).dead(); }

}  // namespace godwit::store
