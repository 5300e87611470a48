// Which pages of a process have been written since we last looked, while it runs.
//
// Asynchronous userfaultfd write protection (Linux 6.7): the kernel resolves the faults by itself and
// PAGEMAP_SCAN tells and re-arms from outside. The descriptor has to be made in the process; it is
// taken out at once (pidfd_getfd) and closed there. Mappings made or moved later are not registered:
// such a mapping counts as fresh as a whole, and scanning it says so.
#pragma once
#include <vector>

#include "migrate/image.hh"
#include "migrate/remote.hh"
#include "tuplespace/posix/unique_fd.hh"

namespace godwit::migrate {

struct Changes {
  std::vector<Extent> data;     // contents have to be copied
  std::vector<Extent> dropped;  // pages of the mapping that hold nothing of the process (any more)
  uint64_t bytes = 0;           // in data
};

class DirtyTracker {
 public:
  /// Makes the descriptor by calls of `remote`, a paused thread of `pid`. Clobbers its registers.
  static Result<DirtyTracker> create(pid_t pid, Remote& remote);

  /// From now on writes to the mapping are tracked. False if the kernel refuses (it stays "fresh").
  bool track(const Mapping& mapping);
  /// Pages of a private mapping that hold data of the process; for a shared one all pages that exist.
  Result<void> list_contents(const Mapping& mapping, Changes& into) const;
  /// Pages written since the last call (or since track), which are armed again.
  /// returns false when the mapping is not tracked: all of it must be taken as fresh.
  Result<bool> list_written(const Mapping& mapping, Changes& into) const;

 private:
  UniqueFd userfault_, pagemap_;
};

}  // namespace godwit::migrate
