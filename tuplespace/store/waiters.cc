#include "tuplespace/store/waiters.hh"

#include <cstring>

#include "tuplespace/shared/futex.hh"
#include "tuplespace/shared/recovery.hh"
#include "tuplespace/store/requests.hh"

namespace godwit::store {
namespace {

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

Queue& queue_of(Root& root, const Waiter& waiter) {
  if (waiter.waiting == Waiting::kWild) return root.wild;
  if (waiter.stripe >= kStripes || waiter.queue >= kQueues) throw Damaged();
  return root.stripes[waiter.stripe].queues[waiter.queue];
}

uint32_t& number_of_waiters(Root& root, const Waiter& waiter) {
  return waiter.waiting == Waiting::kWild ? root.wild_waiters : root.stripes[waiter.stripe].waiters;
}

// A wait that a queue of the root leads to. It says itself where it stands: one that does not, because its thread has left
// the queue of a damaged space as it was, is nobody's neighbour.
Waiter& waiter_in(Desk& desk, Root& root, const Queue& queue, Ref ref) {
  Waiter& waiter = desk.at<Waiter>(ref);
  expect(waiter.self == ref && waiter.waiting != Waiting::kNo && waiter.space == root.number && &queue_of(root, waiter) == &queue);
  return waiter;
}

// The links that lead to a wait from both sides.
Ref& from_before(Desk& desk, Root& root, Queue& queue, const Waiter& waiter) {
  return waiter.previous ? waiter_in(desk, root, queue, waiter.previous).next : queue.first;
}
Ref& from_behind(Desk& desk, Root& root, Queue& queue, const Waiter& waiter) {
  return waiter.next ? waiter_in(desk, root, queue, waiter.next).previous : queue.last;
}

// Where key is not 0, for those that have it.
template <class F>
void for_each_in(Desk& desk, Root& root, const Queue& queue, uint32_t key, F f) {
  Steps steps(desk, ~0ull);
  for (Ref ref = queue.first; ref; steps.take()) {
    Waiter& waiter = waiter_in(desk, root, queue, ref);
    ref = waiter.next;
    if (!key || waiter.key == key) f(waiter);
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

void for_each_candidate(Desk& desk, Root& root, Stripe& stripe, TupleView fields, const std::function<void(Waiter& waiter)>& f) {
  if (stripe.waiters) {
    auto look = [&](uint32_t key) { for_each_in(desk, root, stripe.queues[key / 2 % kQueues], key, f); };
    look(fields.empty() ? 1 : key_of_one(fields[0]));
    if (fields.size() > 1) look(key_of_pair(fields[0], fields[1]));
  }
  if (root.wild_waiters) for_each_in(desk, root, root.wild, 0, f);
}

void enqueue(Desk& desk, Root& root, Waiter& waiter, const NewWait& wait) {
  bool wild = wait.stripe == kStripes;
  waiter.verb = wait.verb;
  waiter.space = root.number;
  waiter.stripe = wild ? 0 : wait.stripe;
  waiter.key = wild ? 0 : key_of(wait.any_of);
  waiter.queue = waiter.key / 2 % kQueues;
  waiter.ticket = wait.ticket;
  waiter.next = 0;
  waiter.state.store(kWaits);
  Queue& queue = wild ? root.wild : root.stripes[wait.stripe].queues[waiter.queue];
  waiter.previous = queue.last;
  Ref& link = from_before(desk, root, queue, waiter);
  expect(link == 0);
  desk.set(&waiter.wanted, desk.bench->in_hand[kFirstHand]);
  put_down(desk, kFirstHand);
  desk.set(&link, waiter.self);
  desk.set(&queue.last, waiter.self);
  desk.set(&waiter.waiting, wild ? Waiting::kWild : Waiting::kInStripe);
  uint32_t& number = number_of_waiters(root, waiter);
  desk.set(&number, number + 1);
}

void unlink_waiter(Desk& desk, Root& root, Waiter& waiter) {
  Queue& queue = queue_of(root, waiter);
  Ref &before = from_before(desk, root, queue, waiter), &behind = from_behind(desk, root, queue, waiter);
  expect(before == waiter.self && behind == waiter.self);
  desk.set(&before, waiter.next);
  desk.set(&behind, waiter.previous);
  uint32_t& number = number_of_waiters(root, waiter);
  desk.set(&number, number - 1);
  desk.set(&waiter.waiting, Waiting::kNo);
}

bool tell_answered(Desk& desk, Waiter& waiter) {
  bool sleeps = waiter.state.fetch_and(~(kWaits | kSleeps)) & kSleeps;
  return waiter.number ? note_answered(desk, waiter) : sleeps;
}

void for_each_wait(Desk& desk, Root& root, const std::function<void(const Waiter& waiter)>& f) {
  for_each_in(desk, root, root.wild, 0, f);
  for (Stripe& stripe : stripes_of(root))
    for (const Queue& queue : stripe.queues) for_each_in(desk, root, queue, 0, f);
}

void dismiss_waiters(Desk& desk, Root& root) {
  auto dismiss = [&](Queue& queue) {
    while (Ref ref = queue.first) {
      Waiter& waiter = waiter_in(desk, root, queue, ref);
      unlink_waiter(desk, root, waiter);
      desk.commit();
      if (tell_answered(desk, waiter)) shared::wake_one(futex_of(desk, waiter));
    }
  };
  dismiss(root.wild);
  for (Stripe& stripe : stripes_of(root))
    for (Queue& queue : stripe.queues) dismiss(queue);
}

namespace {

// False: its neighbours do not point back.
bool leave_queue(Desk& desk, Root& root, Waiter& waiter) {
  try {
    unlink_waiter(desk, root, waiter);
    return true;
  } catch (const Damaged&) {
    roll_back(desk.self.segment, desk.slot());
    return false;
  }
}

// In a damaged queue the wait is left as it is but for its own word that it is in none, by which whoever gets there sees
// the damage (waiter_in).
void forget_wanted(Desk& desk, Root& root, Waiter& waiter) {
  if (waiter.waiting != Waiting::kNo && !leave_queue(desk, root, waiter)) {
    close_damaged(root);
    desk.set(&waiter.waiting, Waiting::kNo);
  }
  pick_up(desk, kFirstHand, waiter.wanted);
  desk.set(&waiter.wanted, Ref{0});
  desk.commit();
}

}  // namespace

// Who was told of an answer stands in no queue. Else with the locks under which it could be answered: an answer that is not
// committed is none.
void end_wait(Desk& desk, Waiter& waiter) {
  if (!waiter.wanted) return;
  Root& root = root_of(desk, waiter.space);
  if (waiter.state.load(std::memory_order_acquire) & kWaits || waiter.waiting != Waiting::kNo) {
    Locked locked(desk, root, waiter.key ? waiter.stripe : kStripes);
    forget_wanted(desk, root, waiter);
  } else {
    forget_wanted(desk, root, waiter);
  }
  give(desk, kFirstHand);
}

}  // namespace godwit::store
