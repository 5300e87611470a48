// Processes of our own executable that must not be tied to whoever started them: node and keeper.
#pragma once
#include <string>
#include <vector>

#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/result.hh"

namespace godwit {

/// The godwit executable: what GODWIT_EXECUTABLE names; else this process's own, if it is one; else the one that was built or
/// installed with the library. Call it before a fork.
const char* godwit_executable();
/// Said by godwit's main: this process is one.
void this_is_godwit();

/// Runs it with these words (the first is argv[0]) as nobody's child, in a session of its
/// own, with no descriptor but /dev/null as 0, 1 and 2, default signals, and / as its folder. Does not
/// wait for it. Safe in a process with threads.
Result<void> spawn_detached(const std::vector<std::string>& words);

/// In a forked child: makes it a daemon's process. `keep` stays open, 0 becomes /dev/null, 1 and 2 `log`.
void become_daemon(int keep, int log);

}  // namespace godwit
