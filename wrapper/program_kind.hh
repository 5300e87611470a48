// Whether the wrapper can be loaded into a program at all.
#pragma once
#include <string>

#include "wrapper/unmovable.hh"

namespace godwit::wrapper {

/// program: as given to execvp. Follows PATH and "#!". A program that cannot be read is left to exec
/// to judge, and counts as loadable.
Unmovable program_kind(const std::string& program);

/// Why exec failed with this errno, and what to do about it. program: as given to execvp.
std::string exec_problem(const std::string& program, int error);

}  // namespace godwit::wrapper
