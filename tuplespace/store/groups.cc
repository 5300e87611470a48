#include "tuplespace/store/groups.hh"

#include <algorithm>

#include "tuplespace/match.hh"
#include "tuplespace/store/table.hh"

namespace godwit::store {
namespace {

Key key_of(const Shape& shape, uint32_t i, TupleView fields) {
  const Index& index = shape.indexes[i];
  expect(index.first < fields.size() && (index.second == kNoField || index.second < fields.size()));
  return make_key(shape, i, fields[index.first], index.second == kNoField ? nullptr : &fields[index.second]);
}

bool has_key(Desk& desk, const Stripe& stripe, Ref tuple, Ref shape_ref, const Index& index, const Key& key) {
  const Stored& stored = stored_in(desk, stripe, tuple);
  if (stored.shape != shape_ref) return false;
  uint32_t last = index.second == kNoField ? index.first : std::max(index.first, index.second);
  Fields fields = fields_of(desk, stored, last + 1);
  expect(fields.view().size() > last);
  return equal(fields.view()[index.first], key.fields[0]) && (key.count == 1 || equal(fields.view()[index.second], key.fields[1]));
}

bool is_in(const Index& index, const Stored& stored) {
  expect(index.state <= IndexState::kReady);
  return index.state == IndexState::kReady || (index.state == IndexState::kBuilding && stored.age <= index.built);
}

uint64_t age_of(const Desk& desk, Ref node) { return stored_at(desk, tuple_of(desk, node)).age; }

// Puts a node where its age belongs: after `before`, which is older, and before the newest. By the ages the walk ends.
void link_between(Desk& desk, Stripe& stripe, Ref mine, Ref before, uint64_t age) {
  Ref after = node_in(desk, stripe, before).newer;
  while (node_in(desk, stripe, after).older == before && age_of(desk, before) < age_of(desk, after) && age_of(desk, after) < age) {
    before = after;
    after = desk.at<Node>(before).newer;
  }
  expect(desk.at<Node>(after).older == before && age < age_of(desk, after));
  Node& node = desk.at<Node>(mine);
  node.newer = after;
  node.older = before;
  desk.set(&desk.at<Node>(after).older, mine);
  desk.set(&desk.at<Node>(before).newer, mine);
}

void link_node(Desk& desk, Stripe& stripe, Ref tuple, uint32_t i, Ref shape_ref, TupleView fields) {
  Shape& shape = shape_in(desk, stripe, shape_ref);
  Key key = key_of(shape, i, fields);
  Ref mine = node_of(tuple, i), first = leader(desk, stripe, shape_ref, shape.indexes[i], key);
  Node& node = desk.at<Node>(mine);
  uint64_t age = stored_at(desk, tuple).age;
  node.hash = key.hash;
  if (!first) {
    node.newer = 0;
    node.older = mine;
    return add_to_chain(desk, stripe, mine);
  }
  Node& oldest = node_in(desk, stripe, first);
  Ref newest = oldest.older;
  expect(node_in(desk, stripe, newest).newer == 0);
  node.chained = 0;
  if (age_of(desk, newest) < age) {
    node.newer = 0;
    node.older = newest;
    desk.set(&desk.at<Node>(newest).newer, mine);
    desk.set(&oldest.older, mine);
  } else if (age < age_of(desk, first)) {  // it comes back and leads again
    node.newer = first;
    node.older = newest;
    node.chained = oldest.chained;
    replace_in_chain(desk, stripe, first, mine);
    desk.set(&oldest.older, mine);
  } else {
    link_between(desk, stripe, mine, first, age);
  }
}

// The leader of the group whose newest node that is: the one that points at it.
Node& leader_of_newest(Desk& desk, Stripe& stripe, Ref newest) {
  Steps steps(desk, stripe.leaders);
  Ref r = bucket_for(desk, stripe, desk.at<Node>(newest).hash).head;
  for (; desk.at<Node>(r).older != newest; r = desk.at<Node>(r).chained) steps.take();
  return node_in(desk, stripe, r);
}

void unlink_leader(Desk& desk, Stripe& stripe, Ref mine) {
  Node& node = desk.at<Node>(mine);
  if (!node.newer) {
    expect(node.older == mine);
    return remove_from_chain(desk, stripe, mine);
  }
  Node& next = node_in(desk, stripe, node.newer);
  expect(next.older == mine);
  desk.set(&next.older, node.older);
  desk.set(&next.chained, node.chained);
  replace_in_chain(desk, stripe, mine, node.newer);
}

void unlink_node(Desk& desk, Stripe& stripe, Ref mine) {
  Node& node = node_in(desk, stripe, mine);
  Node& older = node_in(desk, stripe, node.older);
  if (older.newer == 0) return unlink_leader(desk, stripe, mine);  // its `older` is the newest
  Node& newer = node.newer ? node_in(desk, stripe, node.newer) : leader_of_newest(desk, stripe, mine);
  expect(older.newer == mine && newer.older == mine);
  desk.set(&older.newer, node.newer);
  desk.set(&newer.older, node.older);
}

// Goes on until every tuple of the shape is in it. What a killed builder has done stands.
void build(Desk& desk, Stripe& stripe, Ref shape_ref, uint32_t i) {
  Shape& shape = shape_in(desk, stripe, shape_ref);
  Index& index = shape.indexes[i];
  uint64_t age = 0;
  for (Ref r = shape.oldest; r; r = stored_at(desk, r).newer) {
    Stored& stored = stored_in(desk, stripe, r);
    expect(stored.age > age);
    age = stored.age;
    if (stored.age <= index.built) continue;
    link_node(desk, stripe, r, i, shape_ref, fields_of(desk, stored).view());
    desk.set(&index.built, stored.age);
    desk.commit();
    balance_table(desk, stripe);
  }
  desk.set(&index.state, IndexState::kReady);
  desk.commit();
}

}  // namespace

Key make_key(const Shape& shape, uint32_t i, const FieldView& first, const FieldView* second) {
  uint64_t h = hash(first, uint64_t{shape.hash} << 2 | i);
  if (second) h = hash(*second, h);
  uint32_t folded = (static_cast<uint32_t>(h ^ h >> 32) & ~kIndexBits) | i;
  return {{first, second ? *second : FieldView{}}, second ? 2u : 1u, folded > kIndexBits ? folded : folded | 4};
}

Ref leader(Desk& desk, Stripe& stripe, Ref shape_ref, const Index& index, const Key& key) {
  const Bucket& bucket = bucket_for(desk, stripe, key.hash);
  if (bucket.tag && bucket.tag != key.hash) return 0;
  Steps steps(desk, stripe.leaders);
  for (Ref r = bucket.head; r; r = desk.at<Node>(r).chained) {
    if (desk.at<Node>(r).hash == key.hash && has_key(desk, stripe, tuple_of(desk, r), shape_ref, index, key)) return r;
    steps.take();
  }
  return 0;
}

void link_groups(Desk& desk, Stripe& stripe, Ref tuple, Ref shape_ref, TupleView fields) {
  const Shape& shape = shape_in(desk, stripe, shape_ref);
  for (uint32_t i = 0; i < kIndexes && shape.indexes[i].state != IndexState::kNone; ++i)
    if (is_in(shape.indexes[i], stored_at(desk, tuple))) link_node(desk, stripe, tuple, i, shape_ref, fields);
}

void unlink_groups(Desk& desk, Stripe& stripe, Ref tuple) {
  const Stored& stored = stored_in(desk, stripe, tuple);
  const Shape& shape = shape_in(desk, stripe, stored.shape);
  for (uint32_t i = 0; i < kIndexes && shape.indexes[i].state != IndexState::kNone; ++i)
    if (is_in(shape.indexes[i], stored)) unlink_node(desk, stripe, node_of(tuple, i));
}

bool make_index(Desk& desk, Stripe& stripe, Ref shape_ref, uint32_t first, uint32_t second) {
  Shape& shape = shape_in(desk, stripe, shape_ref);
  uint32_t i = 0;
  while (i < kIndexes && shape.indexes[i].state != IndexState::kNone) ++i;
  if (i == kIndexes || !make_table(desk, stripe)) return false;
  Index& index = shape.indexes[i];
  desk.set(&index.first, first);
  desk.set(&index.second, second);
  desk.set(&index.built, uint64_t{0});
  desk.set(&index.state, IndexState::kBuilding);
  desk.commit();
  build(desk, stripe, shape_ref, i);
  return true;
}

void finish_indexes(Desk& desk, Stripe& stripe, Ref shape) {
  const Shape& record = shape_in(desk, stripe, shape);
  for (uint32_t i = 0; i < kIndexes && record.indexes[i].state != IndexState::kNone; ++i)
    if (record.indexes[i].state == IndexState::kBuilding) build(desk, stripe, shape, i);
}

}  // namespace godwit::store
