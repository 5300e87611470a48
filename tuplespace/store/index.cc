#include "tuplespace/store/index.hh"

#include <algorithm>
#include <bit>
#include <cstring>

#include "tuplespace/match.hh"
#include "tuplespace/store/blocks.hh"

namespace godwit::store {
namespace {

constexpr uint64_t kPatience = 32;     // tuples that a look passes over before it makes an index
constexpr uint32_t kManyShapes = 256;  // of a stripe; beyond, those without tuples are forgotten
constexpr uint32_t kIndexBits = 3;     // of Node::hash
constexpr uint32_t kLongChain = 16;    // leaders of a bucket that a transaction moves at most

Fields read(const Stored& stored, size_t limit = ~size_t{0}) {
  Fields fields;
  if (!fields.read(encoding_of(stored), limit)) throw Damaged();
  return fields;
}

// ---- the hash table

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

// Puts `next` in the place of the leader `node` in its bucket's chain.
void replace_in_chain(Desk& desk, Stripe& stripe, Ref node, Ref next) {
  Bucket& bucket = bucket_at(desk, stripe, bucket_of(stripe, desk.at<Node>(node).hash));
  if (bucket.head == node) return set_bucket(desk, &bucket, next);
  Ref at = bucket.head;
  for (uint32_t n = 0; desk.at<Node>(at).chained != node; ++n) {
    at = desk.at<Node>(at).chained;
    if (n > stripe.leaders) throw Damaged();
  }
  desk.set(&desk.at<Node>(at).chained, next);
  if (at == bucket.head) set_bucket(desk, &bucket, at);
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

// ---- groups of equal keys

struct Key {
  FieldView fields[2];
  uint32_t count;
  uint32_t hash;
};

Key make_key(const Shape& shape, uint32_t i, const FieldView& first, const FieldView* second) {
  uint64_t h = hash(first, uint64_t{shape.hash} << 2 | i);
  if (second) h = hash(*second, h);
  uint32_t folded = (static_cast<uint32_t>(h ^ h >> 32) & ~kIndexBits) | i;
  return {{first, second ? *second : FieldView{}}, second ? 2u : 1u, folded > kIndexBits ? folded : folded | 4};
}

Key key_of(const Shape& shape, uint32_t i, TupleView fields) {
  const Index& index = shape.indexes[i];
  return make_key(shape, i, fields[index.first], index.second == kNoField ? nullptr : &fields[index.second]);
}

Ref node_of(Ref tuple, uint32_t i) { return tuple + (offsetof(Stored, nodes) + i * sizeof(Node)) / kUnit; }
Ref tuple_of(Desk& desk, Ref node) { return node - node_of(0, desk.at<Node>(node).hash & kIndexBits); }

bool has_key(Desk& desk, Ref tuple, Ref shape_ref, const Index& index, const Key& key) {
  const Stored& stored = stored_at(desk, tuple);
  if (stored.shape != shape_ref) return false;
  uint32_t last = index.second == kNoField ? index.first : std::max(index.first, index.second);
  Fields fields = read(stored, last + 1);
  if (fields.view().size() <= last) throw Damaged();
  return equal(fields.view()[index.first], key.fields[0]) && (key.count == 1 || equal(fields.view()[index.second], key.fields[1]));
}

// The oldest node of the key's group; 0: no tuple has it.
Ref leader(Desk& desk, Stripe& stripe, Ref shape_ref, const Index& index, const Key& key) {
  const Bucket& bucket = bucket_at(desk, stripe, bucket_of(stripe, key.hash));
  if (bucket.tag && bucket.tag != key.hash) return 0;
  uint32_t steps = 0;
  for (Ref r = bucket.head; r; r = desk.at<Node>(r).chained) {
    if (desk.at<Node>(r).hash == key.hash && has_key(desk, tuple_of(desk, r), shape_ref, index, key)) return r;
    if (++steps > stripe.leaders) throw Damaged();
  }
  return 0;
}

void link_node(Desk& desk, Stripe& stripe, Ref tuple, uint32_t i, Ref shape_ref, TupleView fields) {
  Shape& shape = desk.at<Shape>(shape_ref);
  Key key = key_of(shape, i, fields);
  Ref mine = node_of(tuple, i), first = leader(desk, stripe, shape_ref, shape.indexes[i], key);
  Node& node = desk.at<Node>(mine);
  uint64_t age = stored_at(desk, tuple).age;
  node.hash = key.hash;
  if (!first) {
    Bucket& bucket = bucket_at(desk, stripe, bucket_of(stripe, key.hash));
    node.newer = 0;
    node.older = mine;
    node.chained = bucket.head;
    set_bucket(desk, &bucket, mine);
    desk.set(&stripe.leaders, stripe.leaders + 1);
    return;
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

void unlink_node(Desk& desk, Stripe& stripe, Ref mine) {
  Node& node = desk.at<Node>(mine);
  Node& older = desk.at<Node>(node.older);
  if (older.newer == 0) {  // we lead: our `older` is the newest
    if (node.newer) {
      Node& next = desk.at<Node>(node.newer);
      desk.set(&next.older, node.older);
      desk.set(&next.chained, node.chained);
    } else {
      desk.set(&stripe.leaders, stripe.leaders - 1);
    }
    replace_in_chain(desk, stripe, mine, node.newer ? node.newer : node.chained);
    return;
  }
  desk.set(&older.newer, node.newer);
  if (node.newer) {
    desk.set(&desk.at<Node>(node.newer).older, node.older);
    return;
  }
  // The newest: its leader is the one that points at it.
  uint32_t steps = 0;
  for (Ref r = bucket_at(desk, stripe, bucket_of(stripe, node.hash)).head;; r = desk.at<Node>(r).chained) {
    if (!r || ++steps > stripe.leaders) throw Damaged();
    if (desk.at<Node>(r).older != mine) continue;
    desk.set(&desk.at<Node>(r).older, node.older);
    return;
  }
}

bool is_in(const Index& index, const Stored& stored) {
  return index.state == IndexState::kReady || (index.state == IndexState::kBuilding && stored.age <= index.built);
}

// Goes on until every tuple of the shape is in it. What a killed builder has done stands.
void build(Desk& desk, Stripe& stripe, Ref shape_ref, uint32_t i) {
  Shape& shape = desk.at<Shape>(shape_ref);
  Index& index = shape.indexes[i];
  for (Ref r = shape.oldest; r; r = stored_at(desk, r).newer) {
    Stored& stored = stored_at(desk, r);
    if (stored.age <= index.built) continue;
    link_node(desk, stripe, r, i, shape_ref, read(stored).view());
    desk.set(&index.built, stored.age);
    desk.commit();
    balance(desk, stripe);
  }
  desk.set(&index.state, IndexState::kReady);
  desk.commit();
}

// ---- shapes

uint32_t hash_of_types(TupleView fields) {
  uint64_t h = fields.size();
  for (const FieldView& field : fields) h = (h ^ static_cast<uint64_t>(field.type)) * 0x100000001b3ull + 0x9E3779B97F4A7C15ull;
  return static_cast<uint32_t>(h ^ h >> 32);
}

bool has_types(const Shape& shape, TupleView fields) {
  if (shape.arity != fields.size()) return false;
  for (size_t i = 0; i < fields.size(); ++i)
    if (shape.types[i] != static_cast<uint8_t>(fields[i].type)) return false;
  return true;
}

bool may_match(const Shape& shape, TemplateView wanted) {
  if (shape.arity != wanted.size()) return false;
  for (size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i].type != PatternView::kAnyType && wanted[i].type != shape.types[i]) return false;
  return true;
}

// Calls f(shape) for those that may match.
template <class F>
void for_each_shape(Desk& desk, Stripe& stripe, TemplateView wanted, F f) {
  for (Ref list : stripe.shapes)
    for (Ref r = list; r; r = desk.at<Shape>(r).next)
      if (desk.at<Shape>(r).tuples && may_match(desk.at<Shape>(r), wanted)) f(r);
}

void forget_empty_shapes(Desk& desk, Stripe& stripe, bool all) {
  for (Ref& list : stripe.shapes) {
    Ref* link = &list;
    while (Ref r = *link) {
      Shape& shape = desk.at<Shape>(r);
      if (shape.tuples || (!all && stripe.shape_count <= kManyShapes / 2)) {
        link = &shape.next;
        continue;
      }
      desk.set(link, shape.next);
      desk.set(&stripe.shape_count, stripe.shape_count - 1);
      pick_up(desk, kSecondHand, r);
      desk.commit();
      give(desk, kSecondHand);
    }
  }
}

// ---- looking

// The fields that a template gives, as far as an index can use them.
struct Given {
  uint32_t first = kNoField, second = kNoField;
};

Given given_by(TemplateView wanted) {
  Given given;
  for (uint32_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].kind != PatternView::kActual) continue;
    if (given.first != kNoField) {
      given.second = i;
      break;
    }
    given.first = i;
  }
  return given;
}

// The index that narrows most; kIndexes: none. exact: there can be no better one.
uint32_t best_index(const Shape& shape, Given given, bool* exact) {
  uint32_t best = kIndexes;
  *exact = given.first == kNoField;
  for (uint32_t i = 0; i < kIndexes; ++i) {
    const Index& index = shape.indexes[i];
    if (index.state == IndexState::kNone) continue;
    if (index.first == given.first && index.second == given.second) return *exact = true, i;
    if (index.second == kNoField && (index.first == given.first || index.first == given.second)) best = i;
  }
  return best;
}

// Makes the index that the template could use, if there is a place for one. returns whether there is one now.
bool make_index(Desk& desk, Stripe& stripe, Ref shape_ref, Given given) {
  Shape& shape = desk.at<Shape>(shape_ref);
  uint32_t i = 0;
  while (i < kIndexes && shape.indexes[i].state != IndexState::kNone) ++i;
  if (i == kIndexes || (stripe.buckets == 0 && !add_part(desk, stripe, 0))) return false;
  Index& index = shape.indexes[i];
  desk.set(&index.first, given.first);
  desk.set(&index.second, given.second);
  desk.set(&index.built, uint64_t{0});
  desk.set(&index.state, IndexState::kBuilding);
  desk.commit();
  build(desk, stripe, shape_ref, i);
  return true;
}

// Calls f(tuple, fields) with the shape's tuples that match, oldest first, until it returns false.
// narrow: a look that is to find one soon, for which an index may be made.
template <class F>
bool walk(Desk& desk, Stripe& stripe, Ref shape_ref, TemplateView wanted, bool narrow, F f) {
  Shape& shape = desk.at<Shape>(shape_ref);
  Given given = given_by(wanted);
  for (uint32_t i = 0; i < kIndexes; ++i)
    if (shape.indexes[i].state == IndexState::kBuilding) build(desk, stripe, shape_ref, i);
  bool exact;
  uint32_t i = best_index(shape, given, &exact);
  bool grouped = i != kIndexes;
  Ref at = shape.oldest;
  if (grouped) {
    const Index& index = shape.indexes[i];
    const FieldView* second = index.second == kNoField ? nullptr : &wanted[index.second].actual;
    Ref first = leader(desk, stripe, shape_ref, index, make_key(shape, i, wanted[index.first].actual, second));
    at = first ? tuple_of(desk, first) : 0;
  }
  uint64_t passed = 0;
  for (uint64_t steps = 0; at; ++steps) {
    if (steps > shape.tuples) throw Damaged();
    Stored& stored = stored_at(desk, at);
    Fields fields = read(stored);
    if (match(wanted, fields.view())) {
      if (!f(at, fields.view())) return false;
    } else if (narrow && !exact && ++passed > kPatience) {
      narrow = make_index(desk, stripe, shape_ref, given);
      if (narrow) return walk(desk, stripe, shape_ref, wanted, false, f);
    }
    Ref next = grouped ? stored.nodes[i].newer : stored.newer;
    at = grouped && next ? tuple_of(desk, next) : next;
  }
  return true;
}

}  // namespace

Stored& stored_at(const Desk& desk, Ref ref) {
  Stored& stored = desk.at<Stored>(ref);
  if (stored.length > kMaxPayload) throw Damaged();
  return stored;
}

Ref shape_for(Desk& desk, Stripe& stripe, TupleView fields) {
  uint32_t hash = hash_of_types(fields);
  Ref& list = stripe.shapes[hash % kShapeLists];
  for (Ref r = list; r; r = desk.at<Shape>(r).next) {
    Shape& shape = desk.at<Shape>(r);
    if (shape.hash == hash && has_types(shape, fields)) return r;
  }
  Ref r = take(desk, kSecondHand, sizeof(Shape) + fields.size());
  if (!r) return 0;
  Shape& shape = desk.at<Shape>(r);
  std::memset(&shape, 0, sizeof shape);
  shape.hash = hash;
  shape.arity = static_cast<uint32_t>(fields.size());
  for (size_t i = 0; i < fields.size(); ++i) shape.types[i] = static_cast<uint8_t>(fields[i].type);
  shape.next = list;
  desk.set(&list, r);
  desk.set(&stripe.shape_count, stripe.shape_count + 1);
  put_down(desk, kSecondHand);
  desk.commit();
  return r;
}

void link(Desk& desk, Stripe& stripe, Ref tuple, Ref shape_ref, TupleView fields) {
  Shape& shape = desk.at<Shape>(shape_ref);
  Stored& stored = stored_at(desk, tuple);
  desk.set(&stored.shape, shape_ref);
  Ref before = shape.newest;
  while (before && stored_at(desk, before).age > stored.age) before = stored_at(desk, before).older;
  Ref after = before ? stored_at(desk, before).newer : shape.oldest;
  stored.older = before;
  desk.set(&stored.newer, after);
  desk.set(before ? &stored_at(desk, before).newer : &shape.oldest, tuple);
  desk.set(after ? &stored_at(desk, after).older : &shape.newest, tuple);
  for (uint32_t i = 0; i < kIndexes; ++i)
    if (is_in(shape.indexes[i], stored)) link_node(desk, stripe, tuple, i, shape_ref, fields);
  desk.set(&shape.tuples, shape.tuples + 1);
  desk.set(&stripe.tuples, stripe.tuples + 1);
  desk.set(&stripe.bytes, stripe.bytes + memory_of(desk, tuple, stored.place.size_class));
}

void unlink(Desk& desk, Stripe& stripe, Ref tuple) {
  Stored& stored = stored_at(desk, tuple);
  Shape& shape = desk.at<Shape>(stored.shape);
  for (uint32_t i = 0; i < kIndexes; ++i)
    if (is_in(shape.indexes[i], stored)) unlink_node(desk, stripe, node_of(tuple, i));
  desk.set(stored.older ? &stored_at(desk, stored.older).newer : &shape.oldest, stored.newer);
  desk.set(stored.newer ? &stored_at(desk, stored.newer).older : &shape.newest, stored.older);
  desk.set(&shape.tuples, shape.tuples - 1);
  desk.set(&stripe.tuples, stripe.tuples - 1);
  desk.set(&stripe.bytes, stripe.bytes - memory_of(desk, tuple, stored.place.size_class));
}

Ref find(Desk& desk, Stripe& stripe, TemplateView wanted) {
  Ref found = 0;
  if (stripe.tuples == 0) return 0;
  for_each_shape(desk, stripe, wanted, [&](Ref shape) {
    walk(desk, stripe, shape, wanted, true, [&](Ref tuple, TupleView) {
      if (!found || stored_at(desk, tuple).age < stored_at(desk, found).age) found = tuple;
      return false;
    });
  });
  return found;
}

void for_each_match(Desk& desk, Stripe& stripe, TemplateView wanted, const std::function<bool(Ref, TupleView)>& f) {
  bool more = true;
  for_each_shape(desk, stripe, wanted, [&](Ref shape) {
    if (more) more = walk(desk, stripe, shape, wanted, false, f);
  });
}

uint64_t count(Desk& desk, Stripe& stripe, TemplateView wanted) {
  bool types_say_all = std::all_of(wanted.begin(), wanted.end(), [](const PatternView& want) {
    return want.kind == PatternView::kFormal || want.kind == PatternView::kAny;
  });
  uint64_t number = 0;
  for_each_shape(desk, stripe, wanted, [&](Ref shape) {
    if (types_say_all) number += desk.at<Shape>(shape).tuples;
    else walk(desk, stripe, shape, wanted, false, [&](Ref, TupleView) { return ++number; });
  });
  return number;
}

void balance(Desk& desk, Stripe& stripe) {
  if (stripe.shape_count > kManyShapes) forget_empty_shapes(desk, stripe, false);
  if (stripe.buckets == 0) return;
  for (int step = 0; step < 2 && stripe.leaders > stripe.buckets && split(desk, stripe); ++step) {
  }
  for (int step = 0; step < 2 && stripe.buckets > kFirstPart && stripe.leaders < stripe.buckets / 4; ++step) merge(desk, stripe);
}

void clear(Desk& desk, Stripe& stripe) {
  forget_empty_shapes(desk, stripe, true);
  while (stripe.buckets > kFirstPart) merge(desk, stripe);
  if (stripe.buckets == 0) return;
  pick_up(desk, kSecondHand, stripe.parts[0]);
  desk.set(&stripe.parts[0], Ref{0});
  desk.set(&stripe.buckets, 0u);
  desk.commit();
  give(desk, kSecondHand);
}

}  // namespace godwit::store
