// What a space is made with, and what there is to know of one.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace godwit {

struct SpaceOptions {
  uint64_t capacity = 0;          // bytes of memory that its tuples may take; 0: as the segment has
  bool blocks_when_full = false;  // out waits for room instead of failing
  bool durable = false;           // what is done is on disk before it is acknowledged
};

struct SpaceFacts {
  std::string name;
  uint64_t tuples = 0, bytes = 0, capacity = 0;
  uint64_t put = 0, taken = 0, read = 0;  // tuples, since it was made; one that was taken and went back is counted
  uint32_t waiters = 0;
  bool blocks_when_full = false, durable = false, damaged = false;
};

/// The space that is there without being created.
inline constexpr const char* kDefaultSpace = "default";
/// Whether a space of that name is Godwit's own, which programs neither use nor see.
inline bool is_own_space(std::string_view name) { return name.starts_with('.'); }
/// The space in which the calls of that space wait (eval.hh); it is durable if that is.
inline std::string evals_name(std::string_view space) { return std::string(space) + ".eval"; }

}  // namespace godwit
