// The files of pod_file.hh from outside: made by supervisors, and taken away when a supervisor was killed and could not.
//
// A supervisor keeps its pod's file locked as long as it lives, so the kernel says whose file is left behind. What must stay
// true: who has locked a file looks whether the path still leads to it before he writes or removes it; so a file that is being
// removed is not written, and one that a supervisor has just made is not removed.
#pragma once
#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/result.hh"
#include "wrapper/pod_file.hh"

namespace godwit::wrapper {

/// Writes the file of a PID namespace; over a dead pod's, for inodes are used again.
/// returns its lock: the pod counts as living as long as it is open.
Result<UniqueFd> claim_pod_file(uint64_t inode, const PodFile& file);

/// Before its lock is let go.
void remove_pod_file(uint64_t inode);

/// Removes the files of the segment's pods whose supervisors are gone. Those of living pods, of other segments and of
/// other users stay.
void reclaim_pod_files(const std::string& segment);

}  // namespace godwit::wrapper
