// A tuple in the segment, reached by reference.
//
// A reference may be damaged. Every record of a stripe says whose it is, and a list is changed only where neighbours point
// back: so what is damaged leads to Damaged, and not into what belongs to others.
#pragma once
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/encoding.hh"

namespace godwit::store {

inline void expect(bool holds) {
  if (!holds) [[unlikely]] throw Damaged();
}

/// A tuple that a bench has.
inline Stored& stored_at(const Desk& desk, Ref ref) { return desk.at<Stored>(ref); }
/// One that a list of the stripe leads to.
inline Stored& stored_in(const Desk& desk, const Stripe& stripe, Ref ref) {
  Stored& stored = stored_at(desk, ref);
  expect(stored.place == stripe.place);
  return stored;
}

inline std::string_view encoding_of(const Desk& desk, const Stored& stored) {
  check_room(desk, desk.ref_of(&stored), sizeof(Stored) + uint64_t{stored.length});
  return {stored.data, stored.length};
}

/// The first `limit` fields of an encoding, or of a tuple, borrowed from it.
inline Fields fields_of(std::string_view encoded, size_t limit = ~size_t{0}) {
  Fields fields;
  expect(fields.read(encoded, limit));
  return fields;
}
inline Fields fields_of(const Desk& desk, const Stored& stored, size_t limit = ~size_t{0}) {
  return fields_of(encoding_of(desk, stored), limit);
}

/// A tuple's place in the i-th index of its shape.
inline Ref node_of(Ref tuple, uint32_t i) {
  return static_cast<Ref>(tuple + (offsetof(Stored, nodes) + i * sizeof(Node)) / kUnit);
}
inline constexpr uint32_t kIndexBits = 3;  // of Node::hash
/// The tuple whose place that is.
inline Ref tuple_of(const Desk& desk, Ref node) { return node - node_of(0, desk.at<Node>(node).hash & kIndexBits); }
/// A place in an index of the stripe that a list of it leads to.
inline Node& node_in(const Desk& desk, const Stripe& stripe, Ref node) {
  (void)stored_in(desk, stripe, tuple_of(desk, node));
  return desk.at<Node>(node);
}

}  // namespace godwit::store
