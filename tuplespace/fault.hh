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

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

extern "C" {
extern const char* const __start_godwit_faults[] __attribute__((weak, visibility("hidden")));
extern const char* const __stop_godwit_faults[] __attribute__((weak, visibility("hidden")));
}

namespace godwit {

enum class FaultAction { kKill, kStop, kError };

struct FaultWords {
  std::string_view point;
  int passing = 1;  // 1 or more
  FaultAction action = FaultAction::kKill;
};

/// POINT[:N][:kill|stop|error], or nullopt. Whether there is such a point is not asked.
inline std::optional<FaultWords> parse_fault(std::string_view text) {
  static constexpr std::array<std::string_view, 3> kActions = {"kill", "stop", "error"};  // as FaultAction
  FaultWords out;
  auto next = [&] {
    std::string_view word = text.substr(0, text.find(':'));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    return word;
  };
  out.point = next();
  if (out.point.empty()) return std::nullopt;
  if (text.empty()) return out;
  std::string_view word = next();
  if (auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), out.passing); error == std::errc()) {
    if (end != word.data() + word.size() || out.passing < 1) return std::nullopt;
    if (text.empty()) return out;
    word = next();
  }
  auto action = std::find(kActions.begin(), kActions.end(), word);
  if (action == kActions.end() || !text.empty()) return std::nullopt;
  out.action = static_cast<FaultAction>(action - kActions.begin());
  return out;
}

struct Fault {
  std::string point;  // empty: no fault is set
  FaultAction action = FaultAction::kKill;
  std::atomic<int> remaining{0};

  explicit Fault(const char* text) { set(text); }

  /// Not thread-safe: before the first thread, or in a forked child. What is malformed sets none; commands refuse it.
  void set(const char* text) {
    FaultWords words = parse_fault(text ? text : "").value_or(FaultWords{});
    point = words.point;
    action = words.action;
    remaining = words.passing;
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
  ::raise(fault.action == FaultAction::kKill ? SIGKILL : SIGSTOP);  // this thread's: it goes no further
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
