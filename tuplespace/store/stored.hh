// A tuple in the segment, reached by reference.
#pragma once
#include "tuplespace/store/desk.hh"
#include "tuplespace/store/encoding.hh"

namespace godwit::store {

inline Stored& stored_at(const Desk& desk, Ref ref) {
  Stored& stored = desk.at<Stored>(ref);
  if (stored.length > kMaxPayload) throw Damaged();
  return stored;
}

inline std::string_view encoding_of(const Stored& stored) { return {stored.data, stored.length}; }

/// The first `limit` fields of an encoding, or of a tuple, borrowed from it.
inline Fields fields_of(std::string_view encoded, size_t limit = ~size_t{0}) {
  Fields fields;
  if (!fields.read(encoded, limit)) throw Damaged();
  return fields;
}
inline Fields fields_of(const Stored& stored, size_t limit = ~size_t{0}) { return fields_of(encoding_of(stored), limit); }

}  // namespace godwit::store
