// Which segment belongs to a home, and how it is opened.
#pragma once
#include <string>

#include "tuplespace/node/home.hh"
#include "tuplespace/shared/segment.hh"

namespace godwit {

/// Name in /dev/shm, derived from the home's path and its owner.
std::string segment_name(const Home& home);

/// Size in bytes of the home's segment when it is made.
uint64_t segment_size(const Home& home);

/// Opens the home's segment, making it first if there is none. Errors say what to do.
Result<shared::Segment> open_host_segment(const Home& home);

}  // namespace godwit
