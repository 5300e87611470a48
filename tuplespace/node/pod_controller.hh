// What the node must be able to ask of the pods of its own host. The wrapper's room implements it.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tuplespace/result.hh"
#include "tuplespace/wire.hh"

namespace godwit {

struct PodFacts {
  uint64_t pod = 0;       // id in the directory
  int pid = 0;            // of the program, in the host's PID namespace
  std::string state;      // "running", "moving", "frozen"
  bool movable = true;
  std::string reason;     // why not; empty if movable
  std::vector<std::string> command;
  uint64_t connections = 0;
  uint64_t bytes_in = 0;  // since the pod began, over all hosts
  uint64_t bytes_out = 0;
};

struct PodLog {
  std::string data;
  uint64_t next = 0;   // offset to ask for next, bytes from the log's start
  bool ended = false;  // the pod has ended, and this was the last of its log
};

/// Every callback runs once, in the loop's thread, perhaps from inside the call. A pod that is not on
/// this host is no_such_process.
class PodController {
 public:
  virtual ~PodController() = default;
  virtual void facts(std::function<void(std::vector<PodFacts>)> callback) = 0;
  virtual void signal(const std::string& pod, int signo, std::function<void(Result<void>)> callback) = 0;
  /// At most `limit` bytes from `offset`. With `wait`, answers when there is something or the pod ends.
  virtual void log(const std::string& pod, uint64_t offset, uint64_t limit, bool wait,
                   std::function<void(Result<PodLog>)> callback) = 0;
  /// For `ps --connections` (and with `pending` what is unread in them): one msgpack map a connection.
  virtual void connections(bool pending, std::function<void(std::vector<Packed>)> callback) {
    static_cast<void>(pending);
    callback({});
  }
};

}  // namespace godwit
