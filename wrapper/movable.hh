// Whether a program that runs in a pod could be moved just now.
#pragma once
#include <sys/types.h>

#include <string>

#include "tuplespace/shared/segment.hh"

namespace godwit::wrapper {

/// Why it cannot: what the wrapper has noted, or a socket of this kernel that it holds, e.g. for UDP. Empty if it can.
/// program: its PID as this process sees it. member: its pod's, in the segment.
std::string reason_not_to_move(shared::Segment segment, uint32_t member, pid_t program);

}  // namespace godwit::wrapper
