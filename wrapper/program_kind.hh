// Whether the wrapper can be loaded into a program at all.
#pragma once
#include <string>

#include "wrapper/unmovable.hh"

namespace godwit::wrapper {

/// program: as given to execvp. Follows PATH and "#!". A program that cannot be read is left to exec
/// to judge, and counts as loadable.
Unmovable program_kind(const std::string& program);

}  // namespace godwit::wrapper
