// What the parts of Departure share.
#pragma once
#include "migrate/departure.hh"

namespace godwit::migrate {

inline constexpr std::string_view kCannotMove = "the program cannot be moved: ";
inline Error cannot_move(const std::string& reason) {
  return make_error(std::errc::operation_not_supported, std::string(kCannotMove) + reason);
}
inline Error injected_fault() { return make_error(std::errc::io_error, "fault injected"); }
/// To be tried again.
inline Error changed(const std::string& what) {
  return make_error(std::errc::resource_unavailable_try_again, what + " while it was being prepared");
}
inline double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// The outcome of a talk with the target; in the target's words if it has given up: it says why and closes, and what
/// fails here first is a send.
Result<void> explained(Channel& channel, Result<void> outcome);

}  // namespace godwit::migrate
