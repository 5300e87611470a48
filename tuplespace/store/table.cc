#include "tuplespace/store/table.hh"

#include <bit>
#include <cstring>

#include "tuplespace/store/blocks.hh"

namespace godwit::store {
namespace {

constexpr uint32_t kLongChain = 16;  // leaders of a bucket that a transaction moves at most

uint32_t part_of(uint32_t bucket) { return bucket < kFirstPart ? 0 : static_cast<uint32_t>(std::bit_width(bucket / kFirstPart)); }
uint32_t part_start(uint32_t part) { return part == 0 ? 0 : kFirstPart << (part - 1); }
uint32_t part_length(uint32_t part) { return part == 0 ? kFirstPart : kFirstPart << (part - 1); }

Bucket& bucket_at(Desk& desk, Stripe& stripe, uint32_t bucket) {
  uint32_t part = part_of(bucket);
  if (part >= kTableParts) throw Damaged();
  return (&desk.at<Bucket>(stripe.parts[part]))[bucket - part_start(part)];
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
  uint64_t bytes = part_length(part) * sizeof(Bucket);
  Ref ref = take(desk, kSecondHand, bytes, shared::RunKind::kTable);
  if (!ref) return false;
  std::memset(&desk.at<char>(ref), 0, bytes);
  desk.set(&stripe.parts[part], ref);
  if (part == 0) desk.set(&stripe.buckets, kFirstPart);
  put_down(desk, kSecondHand);
  desk.commit();
  return true;
}

// Splits the next bucket in two: its leaders go to it or to the new last one.
bool split(Desk& desk, Stripe& stripe) {
  uint32_t fresh = stripe.buckets, m = std::bit_floor(fresh), old = fresh - m;
  if (part_start(part_of(fresh)) == fresh && !stripe.parts[part_of(fresh)] && !add_part(desk, stripe, part_of(fresh))) return false;
  Bucket &from = bucket_at(desk, stripe, old), &to = bucket_at(desk, stripe, fresh);
  uint32_t length = 0;
  for (Ref r = from.head; r; r = desk.at<Node>(r).chained)
    if (++length > kLongChain) return false;
  Ref stay = 0, go = 0;
  for (Ref r = from.head, next; r; r = next) {
    Node& node = desk.at<Node>(r);
    next = node.chained;
    Ref& chain = ((node.hash >> 2) & (2 * m - 1)) == fresh ? go : stay;
    desk.set(&node.chained, chain);
    chain = r;
  }
  set_bucket(desk, &from, stay);
  set_bucket(desk, &to, go);
  desk.set(&stripe.buckets, fresh + 1);
  desk.commit();
  return true;
}

// The last bucket's leaders go back to the one that it was split from.
void merge(Desk& desk, Stripe& stripe) {
  uint32_t last = stripe.buckets - 1, old = last - std::bit_floor(last), part = part_of(last);
  Bucket &from = bucket_at(desk, stripe, last), &to = bucket_at(desk, stripe, old);
  if (from.head) {
    Ref end = from.head;
    for (uint32_t n = 0; desk.at<Node>(end).chained; ++n) {
      end = desk.at<Node>(end).chained;
      if (n > stripe.leaders) throw Damaged();
    }
    desk.set(&desk.at<Node>(end).chained, to.head);
    set_bucket(desk, &to, from.head);
    set_bucket(desk, &from, 0);
  }
  desk.set(&stripe.buckets, last);
  bool spare = last == part_start(part);
  if (spare) {
    pick_up(desk, kSecondHand, stripe.parts[part]);
    desk.set(&stripe.parts[part], Ref{0});
  }
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
  Ref at = bucket.head;
  for (uint32_t n = 0; desk.at<Node>(at).chained != node; ++n) {
    at = desk.at<Node>(at).chained;
    if (n > stripe.leaders) throw Damaged();
  }
  desk.set(&desk.at<Node>(at).chained, next);
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
  pick_up(desk, kSecondHand, stripe.parts[0]);
  desk.set(&stripe.parts[0], Ref{0});
  desk.set(&stripe.buckets, 0u);
  desk.commit();
  give(desk, kSecondHand);
}

}  // namespace godwit::store
