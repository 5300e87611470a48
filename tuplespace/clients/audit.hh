// GODWIT_HOME/audit.log: what clients were let in to, refused, and did to spaces as a whole. A line an event:
//
//   2026-11-23T20:39:38Z CLIENT EVENT facts
//
// Whoever makes events cannot fill the disk: of one kind and client a line a second, of all kinds kMostLines; what is left out is
// counted in the next line of that kind. At kLargest bytes the file becomes audit.log.1, in place of the last one.
#pragma once
#include <chrono>
#include <map>
#include <string>
#include <string_view>

#include "tuplespace/node/home.hh"

namespace godwit::clients {

class Audit {
 public:
  explicit Audit(const Home& home) : path_(home.file("audit.log")) {}

  /// client: its name, "-" if it has none that we know. A line of its own where `each` says that there are few.
  void note(std::string_view client, std::string_view event, std::string_view facts, bool each = false);

  static constexpr uint64_t kLargest = uint64_t{64} << 20;
  static constexpr int kMostLines = 200;  // a second

 private:
  using Clock = std::chrono::steady_clock;
  struct Kind {
    Clock::time_point written;
    uint64_t left_out = 0;
  };
  bool may_write(Clock::time_point now);
  void write(const std::string& line);

  std::string path_;
  UniqueFd file_;
  uint64_t size_ = 0;
  Clock::time_point second_;
  int lines_ = 0;                     // in that second
  std::map<std::string, Kind> kinds_;  // by client and event
};

}  // namespace godwit::clients
