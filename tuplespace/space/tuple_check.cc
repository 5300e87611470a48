#include "tuplespace/space/tuple_check.hh"

#include <algorithm>

#include "tuplespace/nested.hh"
#include "tuplespace/result.hh"

namespace godwit {
namespace {

// The tuple that the field is in nests so deep.
bool nests_too_deep(const FieldView& field, size_t depth = 1) {
  if (field.type != Type::kTuple) return false;
  if (depth == kMaxTupleNesting) return true;
  auto nested = nested_fields(field);
  return std::any_of(nested.begin(), nested.end(), [&](const FieldView& inner) { return nests_too_deep(inner, depth + 1); });
}

bool is_utf8_throughout(const FieldView& field) {
  if (field.type == Type::kString) return is_utf8(field.text);
  if (field.type != Type::kTuple) return true;
  auto nested = nested_fields(field);
  return std::all_of(nested.begin(), nested.end(), is_utf8_throughout);
}

}  // namespace

void check_tuple(TupleView tuple) {
  if (std::any_of(tuple.begin(), tuple.end(), [](const FieldView& field) { return nests_too_deep(field); }))
    throw Failure(make_error(std::errc::message_size, "the tuple nests too deep; 32 tuples within each other are the most"));
  if (!std::all_of(tuple.begin(), tuple.end(), is_utf8_throughout))
    throw Failure(make_error(std::errc::illegal_byte_sequence, "a string of a tuple is UTF-8; other bytes are Bytes"));
}

}  // namespace godwit
