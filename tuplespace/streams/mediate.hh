// The shell as a mediator: one operation on the space net of this host, by a process that ends with it.
#pragma once
#include <optional>
#include <span>

#include "tuplespace/result.hh"
#include "tuplespace/source.hh"

namespace godwit {

/// Takes a tuple of two programs' stream. nullopt: none matches, and it was not to wait.
Result<std::optional<Tuple>> mediate_in(std::span<const Template> wanted, bool waits, Deadline deadline);
/// Puts them, one after the other. The error is of the first that could not be put.
Result<void> mediate_out(std::span<const Tuple> tuples, Deadline deadline);

}  // namespace godwit
