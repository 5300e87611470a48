// A stopped copy that its engine has left behind, by dying or because the commit was not known yet. Its
// state is complete in itself: a group stop, nothing traced.
#pragma once
#include <sys/types.h>

#include <cstdint>

#include "tuplespace/result.hh"

namespace godwit::migrate {

/// True if the process is in group stop and nobody traces it.
bool is_left_behind(pid_t pid);
/// The program goes on. control: address of its Control, 0 if it is not wrapped.
Result<void> adopt_and_continue(pid_t pid, uint64_t control);
/// The caller zeroes alive words before.
Result<void> adopt_and_kill(pid_t pid);

}  // namespace godwit::migrate
