// The message pipe between the engine of the host that a program leaves and the one it arrives on.
#pragma once
#include <chrono>
#include <string>

#include "tuplespace/result.hh"

namespace godwit::migrate {

using Clock = std::chrono::steady_clock;
using Deadline = Clock::time_point;

/// Whole messages, in order, each exactly once or an error. After an error the channel is dead.
class Channel {
 public:
  virtual ~Channel() = default;
  /// May wait while the other side is slow. Not retained after the call.
  virtual Result<void> send(std::string message) = 0;
  /// errors: errc::timed_out when nothing has come by `deadline`; nothing is lost then.
  virtual Result<std::string> receive(Deadline deadline) = 0;
};

}  // namespace godwit::migrate
