#include "tuplespace/store/shapes.hh"

#include <cstring>

#include "tuplespace/store/blocks.hh"

namespace godwit::store {
namespace {

constexpr uint32_t kManyShapes = 256;  // of a stripe; beyond, those without tuples are forgotten

uint32_t hash_of_types(TupleView fields) {
  uint64_t h = fields.size();
  for (const FieldView& field : fields) h = (h ^ static_cast<uint64_t>(field.type)) * 0x100000001b3ull + 0x9E3779B97F4A7C15ull;
  return static_cast<uint32_t>(h ^ h >> 32);
}

void check_types(const Desk& desk, const Shape& shape) { check_room(desk, desk.ref_of(&shape), sizeof(Shape) + shape.arity); }

bool has_types(const Desk& desk, const Shape& shape, TupleView fields) {
  if (shape.arity != fields.size()) return false;
  check_types(desk, shape);
  for (size_t i = 0; i < fields.size(); ++i)
    if (shape.types[i] != static_cast<uint8_t>(fields[i].type)) return false;
  return true;
}

// Forgets shapes without tuples while there are more than `keep`.
void forget_empty(Desk& desk, Stripe& stripe, uint32_t keep) {
  Steps steps(desk, stripe.shape_count);
  for (Ref& list : stripe.shapes) {
    Ref* link = &list;
    while (Ref r = *link) {
      Shape& shape = shape_in(desk, stripe, r);
      steps.take();
      if (shape.tuples || stripe.shape_count <= keep) {
        link = &shape.next;
        continue;
      }
      desk.set(link, shape.next);
      if (!list) desk.set(&stripe.shape_lists, stripe.shape_lists & ~(1u << (&list - stripe.shapes)));
      desk.set(&stripe.shape_count, stripe.shape_count - 1);
      pick_up(desk, kSecondHand, r);
      desk.commit();
      give(desk, kSecondHand);
    }
  }
}

}  // namespace

Ref shape_for(Desk& desk, Stripe& stripe, TupleView fields) {
  uint32_t hash = hash_of_types(fields);
  Ref& list = stripe.shapes[hash % kShapeLists];
  Steps steps(desk, stripe.shape_count);
  for (Ref r = list; r;) {
    const Shape& shape = shape_in(desk, stripe, r);
    if (shape.hash == hash && has_types(desk, shape, fields)) return r;
    steps.take();
    r = shape.next;
  }
  Ref r = take(desk, kSecondHand, sizeof(Shape) + fields.size());
  if (!r) return 0;
  Shape& shape = desk.at<Shape>(r);
  std::memset(&shape, 0, sizeof shape);
  shape.hash = hash;
  shape.arity = static_cast<uint32_t>(fields.size());
  shape.place = stripe.place;
  for (size_t i = 0; i < fields.size(); ++i) shape.types[i] = static_cast<uint8_t>(fields[i].type);
  shape.next = list;
  desk.set(&list, r);
  desk.set(&stripe.shape_lists, stripe.shape_lists | 1u << hash % kShapeLists);
  desk.set(&stripe.shape_count, stripe.shape_count + 1);
  put_down(desk, kSecondHand);
  desk.commit();
  return r;
}

void trim_shapes(Desk& desk, Stripe& stripe) {
  if (stripe.shape_count > kManyShapes) forget_empty(desk, stripe, kManyShapes / 2);
}
void clear_shapes(Desk& desk, Stripe& stripe) { forget_empty(desk, stripe, 0); }

bool may_match(const Desk& desk, const Shape& shape, TemplateView wanted) {
  if (shape.arity != wanted.size()) return false;
  check_types(desk, shape);
  for (size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i].type != PatternView::kAnyType && wanted[i].type != shape.types[i]) return false;
  return true;
}

}  // namespace godwit::store
