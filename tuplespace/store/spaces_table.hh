// The named spaces of a host.
#pragma once
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/space_facts.hh"
#include "tuplespace/store/desk.hh"
#include "tuplespace/template.hh"

namespace godwit::store {

/// A space and the generation of its root that is it.
struct Opened {
  Root* root;
  uint32_t generation;
};

/// errors: no_such_file_or_directory.
Result<Opened> open_space(Desk& desk, std::string_view name);
/// One for calls (evals_name) of a durable space is durable. errors: file_exists, invalid_argument (the name), no_space_on_device; of a durable one, those of await_disk and want_log.
Result<Opened> create_space(Desk& desk, std::string_view name, const SpaceOptions& options);
/// Its tuples are gone, and who waits there is told. errors: no_such_file_or_directory; of a durable one, those of await_disk.
Result<void> drop_space(Desk& desk, std::string_view name);
/// The same in memory alone: a durable one is on disk still.
Result<void> forget_space(Desk& desk, std::string_view name);
/// Finishes drops whose thread was killed.
void finish_drops(Desk& desk);
std::vector<SpaceFacts> list_spaces(Desk& desk);

/// Forgets them all. The log begins anew with the next node.
void drop_all_spaces(Desk& desk);
/// Whether anything would be lost with the segment: tuples, a space that somebody has made, or what a thread of another process
/// is at.
bool is_in_use(Desk& desk);

/// Those of other processes that use spaces now, by their own numbering.
std::set<int> processes(Desk& desk);

struct WaitFacts {
  std::string space;
  bool takes;  // in, else rd
  std::vector<Template> wanted;
  uint32_t pid;
};
/// Who waits, in all spaces.
std::vector<WaitFacts> list_waits(Desk& desk);

}  // namespace godwit::store
