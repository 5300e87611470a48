// Named fault points, compiled into every build. GODWIT_FAULT=POINT[:N][:kill|stop|error] makes POINT
// strike when it is passed for the Nth time (default 1, kill):
//   kill   SIGKILL to this process      stop   SIGSTOP to this process
//   error  the enclosing function fails (points made with GODWIT_FAULT_ERROR only)
// Every point leaves its name in a section of the executable, so that the list of points is made from
// the code and cannot go stale. Use in functions of .cc files only: an inline function's copy would
// have to share the section with others.
#pragma once
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

extern "C" {
extern const char* const __start_godwit_faults[] __attribute__((weak, visibility("hidden")));
extern const char* const __stop_godwit_faults[] __attribute__((weak, visibility("hidden")));
}

namespace godwit {

enum class FaultAction { kKill, kStop, kError };

struct Fault {
  std::string point;  // empty: no fault is set
  FaultAction action = FaultAction::kKill;
  std::atomic<int> remaining{0};

  explicit Fault(const char* text) { set(text); }

  /// Not thread-safe: before the first thread, or in a forked child.
  void set(const char* text) {
    point.clear();
    action = FaultAction::kKill;
    remaining = 1;
    std::string_view rest = text ? text : "";
    for (int field = 0; !rest.empty(); ++field) {
      std::string_view word = rest.substr(0, rest.find(':'));
      rest.remove_prefix(word.size() < rest.size() ? word.size() + 1 : word.size());
      if (field == 0) point = word;
      else if (word == "error") action = FaultAction::kError;
      else if (word == "stop") action = FaultAction::kStop;
      else if (word != "kill") remaining = std::atoi(std::string(word).c_str());
    }
  }
};

inline Fault& fault_in_force() {
  static Fault fault(std::getenv("GODWIT_FAULT"));
  return fault;
}

/// Passes the point. Returns true when the enclosing function shall fail.
inline bool fault_point(const char* name) {
  Fault& fault = fault_in_force();
  if (fault.point.empty() || fault.point != name) return false;
  if (fault.remaining.fetch_sub(1) != 1) return false;
  if (fault.action == FaultAction::kError) return true;
  ::kill(::getpid(), fault.action == FaultAction::kKill ? SIGKILL : SIGSTOP);
  return false;
}

/// All points linked into this executable.
inline std::vector<std::string_view> fault_points() {
  std::vector<std::string_view> names;
  for (auto* p = __start_godwit_faults; p != __stop_godwit_faults; ++p)
    if (*p) names.push_back(*p);
  return names;
}

}  // namespace godwit

/// True when the enclosing function shall fail here.
#define GODWIT_FAULT_ERROR(name)                                                                  \
  ([]() -> bool {                                                                                 \
    [[gnu::section("godwit_faults"), gnu::used]] static const char* const registered_point = name; \
    return ::godwit::fault_point(name);                                                           \
  }())
#define GODWIT_FAULT_POINT(name) static_cast<void>(GODWIT_FAULT_ERROR(name))
