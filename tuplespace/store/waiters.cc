#include "tuplespace/store/waiters.hh"

#include <cstring>

#include "tuplespace/shared/futex.hh"
#include "tuplespace/shared/recovery.hh"

namespace godwit::store {
namespace {

constexpr uint32_t kMostWaiters = shared::kHostSlots;

// What a wait gives beyond its first field.
uint32_t queue_hash(uint64_t h) { return static_cast<uint32_t>(h ^ h >> 32) | 1; }
uint32_t key_of_pair(const FieldView& first, const FieldView& second) { return queue_hash(hash(second, hash(first, 2))); }
uint32_t key_of_one(const FieldView& first) { return queue_hash(hash(first, 1)); }

uint32_t key_of(std::span<const TemplateView> any_of) {
  TemplateView wanted = any_of[0];
  if (wanted.empty()) return 1;
  if (any_of.size() == 1 && wanted.size() > 1 && wanted[1].kind == PatternView::kActual) return key_of_pair(wanted[0].actual, wanted[1].actual);
  return key_of_one(wanted[0].actual);
}

Queue& queue_of(Root& root, const Bench& bench) {
  if (bench.waiting == Waiting::kWild) return root.wild;
  if (bench.stripe >= kStripes || bench.queue >= kQueues) throw Damaged();
  return root.stripes[bench.stripe].queues[bench.queue];
}

// A wait that a queue of the root leads to. It says itself where it stands: one that does not, because its thread has left
// the queue of a damaged space as it was, is nobody's neighbour.
Bench& bench_in(Desk& desk, Root& root, const Queue& queue, uint32_t owner) {
  Bench* bench = desk.bench_of(owner);
  expect(bench && bench->waiting != Waiting::kNo && bench->space == root.number && &queue_of(root, *bench) == &queue);
  return *bench;
}

// The links that lead to a wait from both sides.
uint32_t& from_before(Desk& desk, Root& root, Queue& queue, const Bench& bench) {
  return bench.previous ? bench_in(desk, root, queue, bench.previous).next : queue.first;
}
uint32_t& from_behind(Desk& desk, Root& root, Queue& queue, const Bench& bench) {
  return bench.next ? bench_in(desk, root, queue, bench.next).previous : queue.last;
}

// f(owner, bench): where key is not 0, for those that have it.
template <class F>
void for_each_in(Desk& desk, Root& root, const Queue& queue, uint32_t key, F f) {
  Steps steps(desk, kMostWaiters);
  for (uint32_t owner = queue.first; owner;) {
    const Bench& bench = bench_in(desk, root, queue, owner);
    if (!key || bench.key == key) f(owner, bench);
    owner = bench.next;
    steps.take();
  }
}

}  // namespace

bool write_wanted(Desk& desk, std::span<const TemplateView> any_of) {
  std::string bytes = encode_wanted(any_of);
  Ref ref = take(desk, kFirstHand, sizeof(uint32_t) + bytes.size());
  if (!ref) return false;
  char* block = &desk.at<char>(ref);
  uint32_t length = static_cast<uint32_t>(bytes.size());
  std::memcpy(block, &length, sizeof length);
  std::memcpy(block + sizeof length, bytes.data(), bytes.size());
  return true;
}

std::string_view wanted_at(const Desk& desk, Ref wanted) {
  const char* block = reinterpret_cast<const char*>(&desk.at<uint32_t>(wanted));
  uint32_t length;
  __builtin_memcpy(&length, block, sizeof length);
  check_room(desk, wanted, sizeof length + uint64_t{length});
  return {block + sizeof length, length};
}

bool wants(Desk& desk, Ref wanted, TupleView fields) {
  auto matches = match_encoded(wanted_at(desk, wanted), fields);
  if (!matches) throw Damaged();
  return *matches;
}

void for_each_candidate(Desk& desk, Root& root, Stripe& stripe, TupleView fields,
                        const std::function<void(uint32_t owner, const Bench& bench)>& f) {
  if (stripe.waiters) {
    auto look = [&](uint32_t key) { for_each_in(desk, root, stripe.queues[key / 2 % kQueues], key, f); };
    look(fields.empty() ? 1 : key_of_one(fields[0]));
    if (fields.size() > 1) look(key_of_pair(fields[0], fields[1]));
  }
  if (root.wild_waiters) for_each_in(desk, root, root.wild, 0, f);
}

void enqueue(Desk& desk, Root& root, uint32_t stripe, Verb verb, std::span<const TemplateView> any_of, uint64_t ticket) {
  Bench& bench = *desk.bench;
  bool wild = stripe == kStripes;
  bench.verb = verb;
  bench.space = root.number;
  bench.stripe = wild ? 0 : stripe;
  bench.key = wild ? 0 : key_of(any_of);
  bench.queue = bench.key / 2 % kQueues;
  bench.ticket = ticket;
  bench.next = 0;
  bench.state.store(kWaits);
  Queue& queue = wild ? root.wild : root.stripes[stripe].queues[bench.queue];
  bench.previous = queue.last;
  uint32_t& link = from_before(desk, root, queue, bench);
  expect(link == 0);
  desk.set(&bench.wanted, bench.in_hand[kFirstHand]);
  put_down(desk, kFirstHand);
  desk.set(&link, desk.owner());
  desk.set(&queue.last, desk.owner());
  uint32_t& number = wild ? root.wild_waiters : root.stripes[stripe].waiters;
  desk.set(&number, number + 1);
  desk.set(&bench.waiting, wild ? Waiting::kWild : Waiting::kInStripe);
  desk.commit();
}

void unlink_waiter(Desk& desk, Root& root, Bench& bench) {
  Queue& queue = queue_of(root, bench);
  uint32_t &before = from_before(desk, root, queue, bench), &behind = from_behind(desk, root, queue, bench);
  expect(before == bench.owner && behind == bench.owner);
  desk.set(&before, bench.next);
  desk.set(&behind, bench.previous);
  uint32_t& number = bench.waiting == Waiting::kWild ? root.wild_waiters : root.stripes[bench.stripe].waiters;
  desk.set(&number, number - 1);
  desk.set(&bench.waiting, Waiting::kNo);
}

void for_each_wait(Desk& desk, Root& root, const std::function<void(const Bench& bench)>& f) {
  auto look = [&](const Queue& queue) { for_each_in(desk, root, queue, 0, [&](uint32_t, const Bench& bench) { f(bench); }); };
  look(root.wild);
  for (Stripe& stripe : stripes_of(root))
    for (const Queue& queue : stripe.queues) look(queue);
}

void dismiss_waiters(Desk& desk, Root& root) {
  auto dismiss = [&](Queue& queue) {
    while (uint32_t owner = queue.first) {
      Bench& bench = bench_in(desk, root, queue, owner);
      unlink_waiter(desk, root, bench);
      desk.commit();
      bench.state.fetch_and(~kWaits);
      shared::wake_one(bench.state);
    }
  };
  dismiss(root.wild);
  for (Stripe& stripe : stripes_of(root))
    for (Queue& queue : stripe.queues) dismiss(queue);
}

namespace {

// False: its neighbours do not point back.
bool leave_queue(Desk& desk, Root& root, Bench& bench) {
  try {
    unlink_waiter(desk, root, bench);
    return true;
  } catch (const Damaged&) {
    roll_back(desk.self.segment, desk.slot());
    return false;
  }
}

}  // namespace

// With the locks under which it could be answered: an answer that is not committed is none. In a damaged queue the wait is
// left as it is but for its own word that it is in none, by which whoever gets there sees the damage (bench_in).
void end_wait(Desk& desk, Bench& bench) {
  if (!bench.wanted) return;
  Root& root = root_of(desk, bench.space);
  {
    Locked locked(desk, root, bench.key ? bench.stripe : kStripes);
    if (bench.waiting != Waiting::kNo && !leave_queue(desk, root, bench)) {
      close_damaged(root);
      desk.set(&bench.waiting, Waiting::kNo);
    }
    pick_up(desk, kFirstHand, bench.wanted);
    desk.set(&bench.wanted, Ref{0});
    desk.commit();
  }
  give(desk, kFirstHand);
}

}  // namespace godwit::store
