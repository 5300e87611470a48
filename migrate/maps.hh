// The list of mappings of a process, and what has changed between two looks at it.
#pragma once
#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "migrate/image.hh"

namespace godwit::migrate {

// Where the segment lies in a wrapped process. Its mappings are the wrapper's to describe: neighbours of
// one file may be merged in /proc/PID/maps, so that pieces cannot be told from it.
struct SegmentMark {
  std::string file;  // "dev inode" as in maps; empty: the process is not wrapped
};

// One look at /proc/PID/maps.
struct Layout {
  std::vector<Mapping> mappings;  // those that an image holds: neither segment nor vdso nor vsyscall
  std::string text;               // lines of these, for a quick comparison
  uint64_t vdso_start = 0, vdso_end = 0, vdso_text = 0;
  std::string refusal;            // why the process cannot be moved; empty: it can
};

SegmentMark find_segment(std::string_view maps, uint64_t segment_address);
/// Only the lines that matter to an image. `maps` is the text of /proc/PID/maps.
std::string private_lines(std::string_view maps, const SegmentMark& segment);
/// From the text of maps or smaps; flags such as growth and advice are known only with smaps.
Layout parse_layout(std::string_view text, const SegmentMark& segment);
/// Sizes and fingerprints of the files behind the mappings.
Result<void> identify_files(std::vector<Mapping>& mappings);
/// errors: errc::not_supported if a mapped file is another one on this host.
Result<void> compare_files(const std::vector<Mapping>& expected);
/// What turns `before` into `after`; ranges that keep their identity are not touched. Each change lies
/// within one mapping of either list; unmappings come first.
std::vector<MappingChange> changes_between(const std::vector<Mapping>& before,
                                           const std::vector<Mapping>& after);

}  // namespace godwit::migrate
