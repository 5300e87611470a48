// Tuples and templates as text and as JSON, one a line. docs/protocol.md has the grammar.
//
//   ("task", 42, 3.5, true, nil, b"\x00\xff", ("nested", 1))
//   templates also:  ?  ?int  "abc"*  1..9  {1, 2, 3}
//
// Printing is canonical, and parsing what was printed gives the identical tuple back, NaN, -0.0 and
// infinities (nan, -0.0, inf, -inf) among them.
#pragma once
#include <string>
#include <string_view>

#include "tuplespace/result.hh"
#include "tuplespace/template.hh"
#include "tuplespace/tuple.hh"

namespace godwit {

std::string to_text(const Tuple& tuple);
std::string to_text(const Template& wanted);
/// Errors say what was expected at which character.
Result<Tuple> parse_tuple(std::string_view text);
Result<Template> parse_template(std::string_view text);

/// [{"string":"task"},{"int":"42"},{"float":"3.5"},{"bool":true},{"nil":null},{"bytes":"AP8="},{"tuple":[]}]
std::string to_json(const Tuple& tuple);
Result<Tuple> parse_json(std::string_view text);

std::string to_base64(std::string_view bytes);
/// False if it is not canonical base64.
bool from_base64(std::string_view text, std::string& bytes);

}  // namespace godwit
