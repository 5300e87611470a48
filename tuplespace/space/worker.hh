// When a worker that is idle overtakes others.
#pragma once
#include <chrono>

#include "tuplespace/eval.hh"

namespace godwit {

struct Pace {
  using Duration = std::chrono::nanoseconds;
  Duration look = std::chrono::milliseconds(250);     // from one look for what is under way to the next, while nothing is
  Duration unknown = std::chrono::milliseconds(500);  // is waited for a function that this worker has never carried out itself, ...
  Duration least = std::chrono::milliseconds(50);     // ... and for any other this at least, ...
  int usual = 3;                                      // ... or so many times its usual time
};

void work(const Space& space, const Functions& functions, const std::stop_token& stop, const Pace& pace);

}  // namespace godwit
