// How long an operation may wait.
#pragma once
#include <chrono>
#include <stop_token>
#include <utility>

namespace godwit {

using Deadline = std::chrono::steady_clock::time_point;
inline constexpr Deadline kForever = Deadline::max();

/// Until the deadline, or until a stop is requested, whichever comes first.
struct Wait {
  Deadline deadline = kForever;
  std::stop_token stop;

  Wait() = default;
  Wait(Deadline until, std::stop_token stop = {}) : deadline(until), stop(std::move(stop)) {}
  Wait(std::stop_token stop) : stop(std::move(stop)) {}
  /// So long from now on.
  template <class R, class P>
  Wait(std::chrono::duration<R, P> time, std::stop_token stop = {}) : stop(std::move(stop)) {
    auto now = std::chrono::steady_clock::now();
    if (std::chrono::duration<double>(time) < std::chrono::duration<double>(kForever - now))
      deadline = now + std::chrono::ceil<Deadline::duration>(time);
  }
};

}  // namespace godwit
