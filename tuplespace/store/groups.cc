#include "tuplespace/store/groups.hh"

#include <algorithm>

#include "tuplespace/match.hh"
#include "tuplespace/store/table.hh"

namespace godwit::store {
namespace {

constexpr uint32_t kIndexBits = 3;  // of Node::hash

Key key_of(const Shape& shape, uint32_t i, TupleView fields) {
  const Index& index = shape.indexes[i];
  return make_key(shape, i, fields[index.first], index.second == kNoField ? nullptr : &fields[index.second]);
}

bool has_key(Desk& desk, Ref tuple, Ref shape_ref, const Index& index, const Key& key) {
  const Stored& stored = stored_at(desk, tuple);
  if (stored.shape != shape_ref) return false;
  uint32_t last = index.second == kNoField ? index.first : std::max(index.first, index.second);
  Fields fields = fields_of(stored, last + 1);
  if (fields.view().size() <= last) throw Damaged();
  return equal(fields.view()[index.first], key.fields[0]) && (key.count == 1 || equal(fields.view()[index.second], key.fields[1]));
}

bool is_in(const Index& index, const Stored& stored) {
  return index.state == IndexState::kReady || (index.state == IndexState::kBuilding && stored.age <= index.built);
}

void link_node(Desk& desk, Stripe& stripe, Ref tuple, uint32_t i, Ref shape_ref, TupleView fields) {
  Shape& shape = desk.at<Shape>(shape_ref);
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
  Node& oldest = desk.at<Node>(first);
  Ref newest = oldest.older;
  node.chained = 0;
  if (stored_at(desk, tuple_of(desk, newest)).age < age) {
    node.newer = 0;
    node.older = newest;
    desk.set(&desk.at<Node>(newest).newer, mine);
    desk.set(&oldest.older, mine);
  } else if (age < stored_at(desk, tuple_of(desk, first)).age) {  // it comes back and leads again
    node.newer = first;
    node.older = newest;
    node.chained = oldest.chained;
    replace_in_chain(desk, stripe, first, mine);
    desk.set(&oldest.older, mine);
  } else {
    Ref before = first;
    while (stored_at(desk, tuple_of(desk, desk.at<Node>(before).newer)).age < age) before = desk.at<Node>(before).newer;
    node.newer = desk.at<Node>(before).newer;
    node.older = before;
    desk.set(&desk.at<Node>(node.newer).older, mine);
    desk.set(&desk.at<Node>(before).newer, mine);
  }
}

// The leader of the group whose newest node that is: the one that points at it.
Node& leader_of_newest(Desk& desk, Stripe& stripe, Ref newest) {
  uint32_t steps = 0;
  for (Ref r = bucket_for(desk, stripe, desk.at<Node>(newest).hash).head;; r = desk.at<Node>(r).chained) {
    if (!r || ++steps > stripe.leaders) throw Damaged();
    if (desk.at<Node>(r).older == newest) return desk.at<Node>(r);
  }
}

void unlink_node(Desk& desk, Stripe& stripe, Ref mine) {
  Node& node = desk.at<Node>(mine);
  Node& older = desk.at<Node>(node.older);
  if (older.newer == 0) {  // we lead: our `older` is the newest
    if (!node.newer) return remove_from_chain(desk, stripe, mine);
    Node& next = desk.at<Node>(node.newer);
    desk.set(&next.older, node.older);
    desk.set(&next.chained, node.chained);
    return replace_in_chain(desk, stripe, mine, node.newer);
  }
  desk.set(&older.newer, node.newer);
  Node& newer = node.newer ? desk.at<Node>(node.newer) : leader_of_newest(desk, stripe, mine);
  desk.set(&newer.older, node.older);
}

// Goes on until every tuple of the shape is in it. What a killed builder has done stands.
void build(Desk& desk, Stripe& stripe, Ref shape_ref, uint32_t i) {
  Shape& shape = desk.at<Shape>(shape_ref);
  Index& index = shape.indexes[i];
  for (Ref r = shape.oldest; r; r = stored_at(desk, r).newer) {
    Stored& stored = stored_at(desk, r);
    if (stored.age <= index.built) continue;
    link_node(desk, stripe, r, i, shape_ref, fields_of(stored).view());
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

Ref node_of(Ref tuple, uint32_t i) { return tuple + (offsetof(Stored, nodes) + i * sizeof(Node)) / kUnit; }
Ref tuple_of(Desk& desk, Ref node) { return node - node_of(0, desk.at<Node>(node).hash & kIndexBits); }

Ref leader(Desk& desk, Stripe& stripe, Ref shape_ref, const Index& index, const Key& key) {
  const Bucket& bucket = bucket_for(desk, stripe, key.hash);
  if (bucket.tag && bucket.tag != key.hash) return 0;
  uint32_t steps = 0;
  for (Ref r = bucket.head; r; r = desk.at<Node>(r).chained) {
    if (desk.at<Node>(r).hash == key.hash && has_key(desk, tuple_of(desk, r), shape_ref, index, key)) return r;
    if (++steps > stripe.leaders) throw Damaged();
  }
  return 0;
}

void link_groups(Desk& desk, Stripe& stripe, Ref tuple, Ref shape_ref, TupleView fields) {
  const Shape& shape = desk.at<Shape>(shape_ref);
  for (uint32_t i = 0; i < kIndexes; ++i)
    if (is_in(shape.indexes[i], stored_at(desk, tuple))) link_node(desk, stripe, tuple, i, shape_ref, fields);
}

void unlink_groups(Desk& desk, Stripe& stripe, Ref tuple) {
  const Stored& stored = stored_at(desk, tuple);
  const Shape& shape = desk.at<Shape>(stored.shape);
  for (uint32_t i = 0; i < kIndexes; ++i)
    if (is_in(shape.indexes[i], stored)) unlink_node(desk, stripe, node_of(tuple, i));
}

bool make_index(Desk& desk, Stripe& stripe, Ref shape_ref, uint32_t first, uint32_t second) {
  Shape& shape = desk.at<Shape>(shape_ref);
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
  for (uint32_t i = 0; i < kIndexes; ++i)
    if (desk.at<Shape>(shape).indexes[i].state == IndexState::kBuilding) build(desk, stripe, shape, i);
}

}  // namespace godwit::store
