// Tuples one after the other in a file or pipe: msgpack, JSON lines or text lines.
#pragma once
#include <cstdio>
#include <functional>

#include "tuplespace/result.hh"
#include "tuplespace/tuple.hh"

namespace godwit {

/// False: not all could be written.
bool print_line(std::string line, FILE* to);
bool print_packed(const Tuple& tuple, FILE* to);

/// Calls take with each tuple, until it fails. The first byte tells the form: '[' JSON lines, '(' text lines, else msgpack.
/// Empty lines are passed over. errors: bad_message, with the line or the number of the tuple; and what take says.
Result<void> read_tuples(FILE* from, const std::function<Result<void>(const Tuple&)>& take);

}  // namespace godwit
