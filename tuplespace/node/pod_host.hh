// What a move needs of the room that makes pods; the wrapper implements it.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

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
  uint64_t pod = 0;      // its log was brought here by pod.log
  uint32_t pid = 0;      // that the program must have in its namespace
  int64_t monotonic_shift_ns = 0, boottime_shift_ns = 0;
};

struct LogPiece {
  std::string bytes;
  uint64_t size = 0;  // of the whole log, now
};

/// Any thread; calls may wait. A pod that is not on this host is no_such_process.
class PodHost {
 public:
  virtual ~PodHost() = default;
  virtual Result<RunningPod> find(uint64_t pod) = 0;
  virtual Result<MadePod> make(const PodToMake& what) = 0;
  /// A piece of what the pod has written, from `offset` on.
  virtual Result<LogPiece> log(const std::string& name, uint64_t offset) = 0;
  /// The program is frozen: what is in its standard streams, and its log from `log_from` on, for take(). Until release()
  /// its foreground is neither heard nor told anything.
  virtual Result<std::string> hold(uint64_t pod, const std::string& name, uint64_t log_from) = 0;
  virtual void release(const std::string& name) = 0;
  /// Of a pod that was made, before it goes on.
  virtual Result<void> take(const std::string& name, std::string_view held) = 0;
  /// The pod goes on elsewhere: what is left of it here ends, and is not an end of the pod.
  virtual void departed(uint64_t pod) = 0;
  /// Ends a pod that was made and never went on, or is not wanted any more: all its processes are killed.
  virtual void discard(uint64_t pod) = 0;
};

}  // namespace godwit
