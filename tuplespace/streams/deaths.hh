// Tells of processes of this host that end, as soon as they do.
#pragma once
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include "tuplespace/posix/unique_fd.hh"

namespace godwit {

/// Any thread. Does nothing more when the kernel has no more descriptors for it: then nobody is told.
class Deaths {
 public:
  /// tell  is called in a thread of this.
  explicit Deaths(std::function<void()> tell);
  ~Deaths();

  /// From now on, or at once if it has ended; a process that is watched already is not watched again.
  void watch(int pid);

 private:
  void run();

  const std::function<void()> tell_;
  UniqueFd poll_, end_;
  std::mutex lock_;
  std::set<int> watched_;  // under lock_
  std::thread thread_;
};

}  // namespace godwit
