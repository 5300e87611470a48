// Tuples and templates as msgpack. A tuple is an array of nil, bool, integer, float, str, bin and array;
// docs/protocol.md has templates. Decoding refuses what is no tuple: an integer beyond 64 bits signed, a
// str that is not UTF-8, nesting beyond kMaxTupleNesting, maps and extensions.
#pragma once
#include <string>
#include <string_view>

#include "tuplespace/result.hh"
#include "tuplespace/template.hh"
#include "tuplespace/tuple.hh"

namespace godwit {

std::string encode(const Tuple& tuple);
std::string encode(const Template& wanted);
Result<Tuple> decode_tuple(std::string_view bytes);
Result<Template> decode_template(std::string_view bytes);

}  // namespace godwit
