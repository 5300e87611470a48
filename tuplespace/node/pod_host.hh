// What a move needs of the room that makes pods; the wrapper implements it.
#pragma once
#include <array>
#include <cstdint>
#include <string>

#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/result.hh"

namespace godwit {

struct RunningPod {
  int pid = 0;         // of the program, outer
  std::string spec;    // what make() needs on another host
  std::string reason;  // why it can never be moved; empty if it can
};

/// A pod in which the program's process exists, but is bare: for the engine to build the program in.
struct MadePod {
  int pid = 0;                // outer
  UniqueFd control;           // our end of a socket pair with it (AF_UNIX, SOCK_SEQPACKET)
  int control_there = -1;     // number of the other end in it
  std::array<UniqueFd, 3> stdio;  // for its descriptors 0, 1, 2
};

struct PodToMake {
  std::string spec;
  std::string segment;   // name in /dev/shm
  uint32_t member = 0;
  uint64_t pod = 0;
  uint32_t pid = 0;      // that the program must have in its namespace
  int64_t monotonic_shift_ns = 0, boottime_shift_ns = 0;
};

/// Any thread; calls may wait. A pod that is not on this host is no_such_process.
class PodHost {
 public:
  virtual ~PodHost() = default;
  virtual Result<RunningPod> find(uint64_t pod) = 0;
  virtual Result<MadePod> make(const PodToMake& what) = 0;
  /// The pod goes on on `host`: what is left of it here ends, and is not an end of the pod.
  virtual void departed(uint64_t pod, const std::string& host) = 0;
  /// Ends a pod that was made and never went on, or is not wanted any more: all its processes are killed.
  virtual void discard(uint64_t pod) = 0;
};

}  // namespace godwit
