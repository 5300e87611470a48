// The named spaces of a host.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/store/desk.hh"
#include "tuplespace/template.hh"

namespace godwit::store {

struct SpaceOptions {
  uint64_t capacity = 0;         // bytes of memory that its tuples may take; 0: as the segment has
  bool blocks_when_full = false; // out waits for room instead of failing
};

struct SpaceFacts {
  std::string name;
  uint64_t tuples, bytes, capacity;
  uint32_t waiters;
  bool blocks_when_full, damaged;
};

/// The space that is there without being created.
inline constexpr std::string_view kDefaultSpace = "default";

/// A space and the generation of its root that is it.
struct Opened {
  Root* root;
  uint32_t generation;
};

/// errors: no_such_file_or_directory.
Result<Opened> open_space(Desk& desk, std::string_view name);
/// errors: file_exists, invalid_argument (the name), no_space_on_device.
Result<Opened> create_space(Desk& desk, std::string_view name, const SpaceOptions& options);
/// Its tuples are gone, and who waits there is told. errors: no_such_file_or_directory.
Result<void> drop_space(Desk& desk, std::string_view name);
/// Finishes drops whose thread was killed.
void finish_drops(Desk& desk);
std::vector<SpaceFacts> list_spaces(Desk& desk);

struct WaitFacts {
  std::string space;
  bool takes;  // in, else rd
  std::vector<Template> wanted;
  uint32_t pid;
};
/// Who waits, in all spaces.
std::vector<WaitFacts> list_waits(Desk& desk);

}  // namespace godwit::store
