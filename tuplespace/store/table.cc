#include "tuplespace/store/table.hh"

#include <bit>
#include <cstring>

#include "tuplespace/store/stored.hh"

namespace godwit::store {
namespace {

constexpr uint32_t kMoves = 32;  // of leaders that a transaction makes at most

uint32_t part_of(uint32_t bucket) { return bucket < kFirstPart ? 0 : static_cast<uint32_t>(std::bit_width(bucket / kFirstPart)); }
uint32_t part_start(uint32_t part) { return part == 0 ? 0 : kFirstPart << (part - 1); }
uint32_t part_length(uint32_t part) { return part == 0 ? kFirstPart : kFirstPart << (part - 1); }

uint64_t part_bytes(uint32_t part) { return sizeof(Part) + part_length(part) * sizeof(Bucket); }

Part& part_in(const Desk& desk, const Stripe& stripe, uint32_t number) {
  Part& part = desk.at<Part>(stripe.parts[number]);
  expect(part.place == stripe.place && part.number == number);
  return part;
}

Bucket& bucket_at(Desk& desk, Stripe& stripe, uint32_t bucket) {
  uint32_t number = part_of(bucket);
  expect(number < kTableParts);
  return part_in(desk, stripe, number).buckets[bucket - part_start(number)];
}

uint32_t bucket_of(const Stripe& stripe, uint32_t hash) {
  uint32_t h = hash >> 2, m = std::bit_floor(stripe.buckets);
  uint32_t bucket = h & (2 * m - 1);
  return bucket < stripe.buckets ? bucket : h & (m - 1);
}

void set_bucket(Desk& desk, Bucket* bucket, Ref head) {
  Bucket now{head, 0};
  if (head) {
    const Node& node = desk.at<Node>(head);
    if (!node.chained) now.tag = node.hash;
  }
  desk.set(reinterpret_cast<uint64_t*>(bucket), std::bit_cast<uint64_t>(now));
}

// A part more, when the next bucket needs one. A transaction of its own.
bool add_part(Desk& desk, Stripe& stripe, uint32_t part) {
  if (part >= kTableParts) return false;
  Ref ref = take(desk, kSecondHand, part_bytes(part), shared::RunKind::kTable);
  if (!ref) return false;
  Part& made = desk.at<Part>(ref);
  std::memset(static_cast<void*>(&made), 0, part_bytes(part));
  made.place = stripe.place;
  made.number = part;
  desk.set(&stripe.parts[part], ref);
  if (part == 0) desk.set(&stripe.buckets, kFirstPart);
  put_down(desk, kSecondHand);
  desk.commit();
  return true;
}

// In the caller's transaction, after which the part is to be given back.
void drop_part(Desk& desk, Stripe& stripe, uint32_t number) {
  (void)part_in(desk, stripe, number);
  pick_up(desk, kSecondHand, stripe.parts[number]);
  desk.set(&stripe.parts[number], Ref{0});
}

// A bucket's chain with all leaders that are to go in front of those that stay.
struct Sorted {
  Ref head;
  Ref last_going, first_staying;  // 0: none
  bool done;                      // else that is all that a transaction can do of it
};

template <class F>
Sorted sort_chain(Desk& desk, Stripe& stripe, Ref head, F goes) {
  Sorted sorted{head, 0, 0, true};
  Steps steps(desk, stripe.leaders);
  uint32_t moves = 0;
  for (Ref before = 0, r = head, next; r; r = next) {
    Node& node = node_in(desk, stripe, r);
    next = node.chained;
    steps.take();
    if (!goes(node.hash)) {
      if (!sorted.first_staying) sorted.first_staying = r;
      before = r;
    } else if (!sorted.first_staying) {
      sorted.last_going = r;
    } else if (moves++ == kMoves) {
      sorted.done = false;
      break;
    } else {
      desk.set(&desk.at<Node>(before).chained, next);
      desk.set(&node.chained, sorted.head);
      sorted.head = r;
      if (!sorted.last_going) sorted.last_going = r;
    }
  }
  return sorted;
}

// Splits the next bucket in two: its leaders go to the new last one, or stay. A long chain takes several transactions, and
// is one of the old bucket until the last. False: the segment is full.
bool split(Desk& desk, Stripe& stripe) {
  uint32_t fresh = stripe.buckets, m = std::bit_floor(fresh), old = fresh - m;
  expect(m >= kFirstPart && part_of(fresh) < kTableParts);
  if (part_start(part_of(fresh)) == fresh && !stripe.parts[part_of(fresh)] && !add_part(desk, stripe, part_of(fresh))) return false;
  Bucket &from = bucket_at(desk, stripe, old), &to = bucket_at(desk, stripe, fresh);
  Sorted sorted = sort_chain(desk, stripe, from.head, [&](uint32_t hash) { return ((hash >> 2) & (2 * m - 1)) == fresh; });
  if (sorted.done) {
    if (sorted.last_going) desk.set(&desk.at<Node>(sorted.last_going).chained, Ref{0});
    set_bucket(desk, &to, sorted.last_going ? sorted.head : 0);
    set_bucket(desk, &from, sorted.first_staying);
    desk.set(&stripe.buckets, fresh + 1);
  } else {
    set_bucket(desk, &from, sorted.head);
  }
  desk.commit();
  return true;
}

// The last bucket's leaders go back to the one that it was split from.
void merge(Desk& desk, Stripe& stripe) {
  uint32_t last = stripe.buckets - 1, old = last - std::bit_floor(last), number = part_of(last);
  Bucket &from = bucket_at(desk, stripe, last), &to = bucket_at(desk, stripe, old);
  if (from.head) {
    Steps steps(desk, stripe.leaders);
    Ref end = from.head;
    for (; node_in(desk, stripe, end).chained; end = desk.at<Node>(end).chained) steps.take();
    desk.set(&desk.at<Node>(end).chained, to.head);
    set_bucket(desk, &to, from.head);
    set_bucket(desk, &from, 0);
  }
  desk.set(&stripe.buckets, last);
  bool spare = last == part_start(number);
  if (spare) drop_part(desk, stripe, number);
  desk.commit();
  if (spare) give(desk, kSecondHand);
}

}  // namespace

bool make_table(Desk& desk, Stripe& stripe) { return stripe.buckets != 0 || add_part(desk, stripe, 0); }

Bucket& bucket_for(Desk& desk, Stripe& stripe, uint32_t hash) { return bucket_at(desk, stripe, bucket_of(stripe, hash)); }

void add_to_chain(Desk& desk, Stripe& stripe, Ref leader) {
  Node& node = desk.at<Node>(leader);
  Bucket& bucket = bucket_for(desk, stripe, node.hash);
  node.chained = bucket.head;
  set_bucket(desk, &bucket, leader);
  desk.set(&stripe.leaders, stripe.leaders + 1);
}

void remove_from_chain(Desk& desk, Stripe& stripe, Ref leader) {
  desk.set(&stripe.leaders, stripe.leaders - 1);
  replace_in_chain(desk, stripe, leader, desk.at<Node>(leader).chained);
}

void replace_in_chain(Desk& desk, Stripe& stripe, Ref node, Ref next) {
  Bucket& bucket = bucket_for(desk, stripe, desk.at<Node>(node).hash);
  if (bucket.head == node) return set_bucket(desk, &bucket, next);
  Steps steps(desk, stripe.leaders);
  Ref at = bucket.head;
  for (; desk.at<Node>(at).chained != node; at = desk.at<Node>(at).chained) steps.take();
  desk.set(&node_in(desk, stripe, at).chained, next);
  if (at == bucket.head) set_bucket(desk, &bucket, at);
}

void balance_table(Desk& desk, Stripe& stripe) {
  if (stripe.buckets == 0) return;
  for (int step = 0; step < 2 && stripe.leaders > stripe.buckets && split(desk, stripe); ++step) {
  }
  for (int step = 0; step < 2 && stripe.buckets > kFirstPart && stripe.leaders < stripe.buckets / 4; ++step) merge(desk, stripe);
}

void clear_table(Desk& desk, Stripe& stripe) {
  while (stripe.buckets > kFirstPart) merge(desk, stripe);
  if (stripe.buckets == 0) return;
  drop_part(desk, stripe, 0);
  desk.set(&stripe.buckets, 0u);
  desk.commit();
  give(desk, kSecondHand);
}

}  // namespace godwit::store
