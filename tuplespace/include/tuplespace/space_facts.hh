// What a space is made with, and what there is to know of one.
#pragma once
#include <cstdint>
#include <string>

namespace godwit {

struct SpaceOptions {
  uint64_t capacity = 0;          // bytes of memory that its tuples may take; 0: as the segment has
  bool blocks_when_full = false;  // out waits for room instead of failing
};

struct SpaceFacts {
  std::string name;
  uint64_t tuples, bytes, capacity;
  uint32_t waiters;
  bool blocks_when_full, damaged;
};

/// The space that is there without being created.
inline constexpr const char* kDefaultSpace = "default";

}  // namespace godwit
