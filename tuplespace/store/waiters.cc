#include "tuplespace/store/waiters.hh"

#include "tuplespace/store/blocks.hh"

namespace godwit::store {
namespace {

constexpr uint32_t kMostWaiters = shared::kMembers * shared::kSlots;

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

Bench& bench_at(const Desk& desk, uint32_t owner) {
  Bench* bench = desk.bench_of(owner);
  if (!bench) throw Damaged();
  return *bench;
}

template <class F>
void for_each_in(Desk& desk, const Queue& queue, uint32_t key, F f) {
  uint32_t steps = 0;
  for (uint32_t owner = queue.first; owner;) {
    Bench& bench = bench_at(desk, owner);
    if (!key || bench.key == key) f(owner, bench);
    owner = bench.next;
    if (++steps > kMostWaiters) throw Damaged();
  }
}

}  // namespace

std::string_view wanted_of(const Desk& desk, const Bench& bench) {
  const char* block = &desk.at<char>(bench.wanted);
  uint32_t length;
  __builtin_memcpy(&length, block, sizeof length);
  return {block + sizeof length, length};
}

bool wants(Desk& desk, const Bench& bench, TupleView fields) {
  auto matches = match_encoded(wanted_of(desk, bench), fields);
  if (!matches) throw Damaged();
  return *matches;
}

void for_each_candidate(Desk& desk, Root& root, Stripe& stripe, TupleView fields,
                        const std::function<void(uint32_t owner, const Bench& bench)>& f) {
  if (stripe.waiters) {
    auto look = [&](uint32_t key) { for_each_in(desk, stripe.queues[key / 2 % kQueues], key, f); };
    look(fields.empty() ? 1 : key_of_one(fields[0]));
    if (fields.size() > 1) look(key_of_pair(fields[0], fields[1]));
  }
  if (root.wild_waiters) for_each_in(desk, root.wild, 0, f);
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
  desk.set(&bench.wanted, bench.in_hand[kFirstHand]);
  put_down(desk, kFirstHand);
  desk.set(queue.last ? &bench_at(desk, queue.last).next : &queue.first, desk.owner());
  desk.set(&queue.last, desk.owner());
  uint32_t& number = wild ? root.wild_waiters : root.stripes[stripe].waiters;
  desk.set(&number, number + 1);
  desk.set(&bench.waiting, wild ? Waiting::kWild : Waiting::kInStripe);
  desk.commit();
}

void unlink_waiter(Desk& desk, Root& root, Bench& bench) {
  Queue& queue = queue_of(root, bench);
  desk.set(bench.previous ? &bench_at(desk, bench.previous).next : &queue.first, bench.next);
  desk.set(bench.next ? &bench_at(desk, bench.next).previous : &queue.last, bench.previous);
  uint32_t& number = bench.waiting == Waiting::kWild ? root.wild_waiters : root.stripes[bench.stripe].waiters;
  desk.set(&number, number - 1);
  desk.set(&bench.waiting, Waiting::kNo);
}

// With the locks under which it could be answered: an answer that is not committed is none.
void end_wait(Desk& desk, Bench& bench) {
  if (!bench.wanted) return;
  Root& root = root_of(desk, bench.space);
  {
    Locked locked(desk, root, bench.key ? bench.stripe : kStripes);
    if (bench.waiting != Waiting::kNo) unlink_waiter(desk, root, bench);
    pick_up(desk, kFirstHand, bench.wanted);
    desk.set(&bench.wanted, Ref{0});
    desk.commit();
  }
  give(desk, kFirstHand);
}

}  // namespace godwit::store
