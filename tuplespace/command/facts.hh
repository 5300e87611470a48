// Facts that a node's method answers, shown as a table or as JSON, one object a line.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/wire.hh"

namespace godwit {

/// As JSON text: strings that are not UTF-8 and bytes become base64.
std::string to_json(const msgpack::object& object);
/// As a table's cell, on one line: a list joined by blanks, true as "yes", an empty string as "-", one in a list as ''.
std::string to_cell(const msgpack::object& object);

/// Calls `method` of this home's node, which answers a list of maps, and prints them; `columns` are the
/// keys that the table shows. Returns the command's exit status.
int show_facts(std::string_view command, std::string_view method, const Packed& params, bool json,
               const std::vector<std::string>& columns);
void print_facts(const std::vector<msgpack::object>& rows, bool json, const std::vector<std::string>& columns);

}  // namespace godwit
