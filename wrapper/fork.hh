// fork: the child owns copies of every descriptor, none of the parent's threads, and has no slot yet.
#pragma once
#include <sys/types.h>

namespace godwit::wrapper {

pid_t fork_with(pid_t (*real)());

}  // namespace godwit::wrapper
