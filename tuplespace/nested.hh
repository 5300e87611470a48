// The fields of a nested tuple, wherever it is: a Tuple, or as the store keeps it.
#pragma once
#include <vector>

#include "tuplespace/tuple.hh"

namespace godwit {

/// A damaged encoding has no fields.
std::vector<FieldView> nested_fields(const FieldView& tuple);

}  // namespace godwit
