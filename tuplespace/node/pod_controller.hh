// What the node must be able to ask of the pods of its own host. The wrapper's room implements it.
#pragma once
#include <array>
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

/// A connection as one host knows it; of one between hosts each knows the half that it sees first. [0]: of the client's
/// end and what it writes, [1]: of the server's.
struct ConnectionFacts {
  std::string connection;                          // as in tuples
  std::array<uint64_t, 2> pods = {};               // ids, or a bridge; 0: not known
  std::array<std::string, 2> addresses;
  std::array<bool, 2> living = {};                 // not closed
  bool accepted = false;
  std::array<uint64_t, 2> tails = {}, heads = {};  // bytes written and bytes taken since the stream's start
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
  /// "moving" or "frozen" while a move has the pod in hand; "" when it runs.
  virtual void set_state(const std::string& pod, std::string state) {
    static_cast<void>(pod);
    static_cast<void>(state);
  }
  virtual void signal(const std::string& pod, int signo, std::function<void(Result<void>)> callback) = 0;
  /// At most `limit` bytes from `offset`. With `wait`, answers when there is something or the pod ends.
  virtual void log(const std::string& pod, uint64_t offset, uint64_t limit, bool wait,
                   std::function<void(Result<PodLog>)> callback) = 0;
  /// Of this host's pods.
  virtual void connections(std::function<void(std::vector<ConnectionFacts>)> callback) { callback({}); }
};

}  // namespace godwit
