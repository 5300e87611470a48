// Parsing of /proc/PID/maps and smaps, and the difference of two layouts.
//
// The difference is taken over elementary ranges, between any two boundaries of either list, so that
// the growth of a heap or a stack, the split of a mapping by mprotect and the merging of neighbours all
// come out as what they are: a new range, a changed protection, nothing.
#include "migrate/maps.hh"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>

#include "migrate/proc.hh"

namespace godwit::migrate {

namespace {

struct Line {
  uint64_t start = 0, end = 0, offset = 0;
  char access[5] = {};
  std::string file;  // "dev inode"
  std::string_view path;
};

bool parse_line(std::string_view text, Line& line) {
  char device[24];
  unsigned long inode = 0;
  int at = 0;
  std::string copy(text);
  if (std::sscanf(copy.c_str(), "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %23s %lu %n", &line.start, &line.end,
                  line.access, &line.offset, device, &inode, &at) < 6)
    return false;
  line.file = std::string(device) + " " + std::to_string(inode);
  line.path = text.substr(std::min<size_t>(static_cast<size_t>(at), text.size()));
  return true;
}

template <class Use>
void for_each_line(std::string_view text, Use use) {
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size() - 1);
    use(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
}

bool kernel_owned(std::string_view path) { return path.starts_with("[vvar") || path == "[vdso]" || path == "[vsyscall]"; }

Mapping to_mapping(const Line& line) {
  Mapping m;
  m.start = line.start;
  m.end = line.end;
  m.protection = (line.access[0] == 'r' ? PROT_READ : 0u) | (line.access[1] == 'w' ? PROT_WRITE : 0u) |
                 (line.access[2] == 'x' ? PROT_EXEC : 0u);
  if (line.access[3] == 's') m.flags |= Mapping::kShared;
  if (line.path.empty() || line.path[0] == '[') {
    m.flags |= Mapping::kAnonymous;
    if (line.path == "[stack]") m.flags |= Mapping::kStack;
  } else {
    m.path = line.path;
    m.offset = line.offset;
  }
  return m;
}

// Shared memory that other processes may have would come apart in a move; memory behind a deleted file
// could not be found again.
std::string refusal_of(Mapping& m, const Line& line) {
  if (m.anonymous()) return {};
  std::string range = m.path + " mapped at " + std::to_string(m.start);
  if (m.shared() && m.path == "/dev/zero (deleted)") {
    m.flags |= Mapping::kAnonymous;  // MAP_SHARED | MAP_ANONYMOUS; a lone process has it for itself
    m.path.clear();
    m.offset = 0;
    return {};
  }
  if (m.path[0] != '/') return "uses " + range + ", which only this kernel knows";
  if (m.path.ends_with(" (deleted)")) return "maps a deleted file, " + range;
  if (m.path.starts_with("/dev/")) return "maps a device or foreign shared memory, " + range;
  if (m.shared() && line.access[1] == 'w') return "writes to a shared file mapping, " + range;
  return {};
}

void note_vdso(Layout& layout, const Line& line) {
  if (line.path == "[vsyscall]") return;
  if (!layout.vdso_start) layout.vdso_start = line.start;
  layout.vdso_end = line.end;
  if (line.path == "[vdso]") layout.vdso_text = line.start;
}

void apply_flags(Layout& layout, Mapping& m, std::string_view flags) {
  static constexpr std::pair<const char*, uint32_t> kKept[] = {
      {" gd", Mapping::kStack},      {" hg", Mapping::kHuge},       {" nh", Mapping::kNoHuge},
      {" nr", Mapping::kNoReserve},  {" dc", Mapping::kDontFork},   {" wf", Mapping::kWipeOnFork},
      {" lo", Mapping::kLocked}};
  for (auto& [letters, flag] : kKept)
    if (flags.find(letters) != flags.npos) m.flags |= flag;
  if (flags.find(" ht") != flags.npos) layout.refusal = "uses huge pages of hugetlbfs";
  if (flags.find(" io") != flags.npos || flags.find(" pf") != flags.npos)
    layout.refusal = "maps the memory of a device";
  if (flags.find(" uw") != flags.npos || flags.find(" um") != flags.npos)
    layout.refusal = "uses userfaultfd itself";
}

}  // namespace

SegmentMark find_segment(std::string_view maps, uint64_t segment_address) {
  SegmentMark mark;
  for_each_line(maps, [&](std::string_view text) {
    Line line;
    if (parse_line(text, line) && line.start <= segment_address && segment_address < line.end)
      mark.file = line.file;
  });
  return mark;
}

std::string private_lines(std::string_view maps, const SegmentMark& segment) {
  std::string kept;
  std::string needle = segment.file.empty() ? "" : " " + segment.file + " ";
  for_each_line(maps, [&](std::string_view line) {
    if (!needle.empty() && line.find(needle) != line.npos) return;
    kept.append(line).push_back('\n');
  });
  return kept;
}

Layout parse_layout(std::string_view text, const SegmentMark& segment) {
  Layout layout;
  bool counted = false;  // smaps: whether the flags that follow belong to a mapping of ours
  std::set<std::string> shared;
  for_each_line(text, [&](std::string_view row) {
    if (row.starts_with("VmFlags:")) {
      if (counted) apply_flags(layout, layout.mappings.back(), row);
      return;
    }
    Line line;
    if (row.empty() || (row[0] >= 'A' && row[0] <= 'Z') || !parse_line(row, line)) return;
    counted = false;
    if (!segment.file.empty() && line.file == segment.file) return;
    layout.text.append(row).push_back('\n');
    if (kernel_owned(line.path)) return note_vdso(layout, line);
    // The text of a running process may show a place twice, as it was and as it is.
    if (!layout.mappings.empty() && line.start < layout.mappings.back().end) {
      line.offset += layout.mappings.back().end - line.start;
      line.start = layout.mappings.back().end;
      if (line.start >= line.end) return;
    }
    Mapping m = to_mapping(line);
    std::string refusal = refusal_of(m, line);
    if (refusal.empty() && m.shared() && m.anonymous() && !shared.insert(line.file).second)
      refusal = "maps one piece of shared memory in several parts";
    if (!refusal.empty() && layout.refusal.empty()) layout.refusal = refusal;
    layout.mappings.push_back(std::move(m));
    counted = true;
  });
  return layout;
}

namespace {
Error needed(const std::string& path, const std::string& problem) {
  return make_error(std::errc::not_supported,
                    "the file " + path + " " + problem + "; both hosts need the same program and libraries");
}
}  // namespace

Result<void> identify_files(std::vector<Mapping>& mappings) {
  std::map<std::string, std::pair<uint64_t, uint64_t>> known;
  for (Mapping& m : mappings) {
    if (m.anonymous()) continue;
    auto [entry, fresh] = known.try_emplace(m.path);
    if (fresh) {
      UniqueFd file(::open(m.path.c_str(), O_RDONLY | O_CLOEXEC));
      struct stat st{};
      if (!file.valid() || ::fstat(file.get(), &st))
        return needed(m.path, std::string("cannot be opened: ") + strerror(errno));
      std::string page(kPage, '\0');
      page.resize(static_cast<size_t>(std::max<ssize_t>(0, ::pread(file.get(), page.data(), page.size(), 0))));
      entry->second = {static_cast<uint64_t>(st.st_size), fingerprint(page)};
    }
    std::tie(m.file_size, m.fingerprint) = entry->second;
  }
  return {};
}

Result<void> compare_files(const std::vector<Mapping>& expected) {
  std::vector<Mapping> here = expected;
  if (auto r = identify_files(here); !r) return r;
  for (size_t i = 0; i < here.size(); ++i)
    if (here[i].file_size != expected[i].file_size || here[i].fingerprint != expected[i].fingerprint)
      return needed(here[i].path, "is not the same there");
  return {};
}

namespace {

// The mapping of a sorted list that covers `address`.
const Mapping* covering(const std::vector<Mapping>& list, uint64_t address) {
  auto it = std::upper_bound(list.begin(), list.end(), address,
                             [](uint64_t a, const Mapping& m) { return a < m.end; });
  return it != list.end() && it->start <= address ? &*it : nullptr;
}

bool same_backing(const Mapping& a, const Mapping& b) {
  if (a.shared() != b.shared() || a.anonymous() != b.anonymous()) return false;
  return a.anonymous() || (a.path == b.path && a.offset - a.start == b.offset - b.start);
}

Mapping part_of(const Mapping& whole, uint64_t start, uint64_t end) {
  Mapping part = whole;
  part.start = start;
  part.end = end;
  if (!whole.anonymous()) part.offset = whole.offset + (start - whole.start);
  return part;
}

}  // namespace

std::vector<MappingChange> changes_between(const std::vector<Mapping>& before,
                                           const std::vector<Mapping>& after) {
  std::set<uint64_t> cuts;
  for (auto* list : {&before, &after})
    for (const Mapping& m : *list) cuts.insert({m.start, m.end});
  std::vector<MappingChange> gone, made;
  for (auto cut = cuts.begin(); cut != cuts.end() && std::next(cut) != cuts.end(); ++cut) {
    uint64_t start = *cut, end = *std::next(cut);
    const Mapping *old = covering(before, start), *now = covering(after, start);
    bool kept = old && now && same_backing(*old, *now);
    if (old && !kept) gone.push_back({MappingChange::kUnmap, part_of(*old, start, end)});
    if (now && !kept) made.push_back({MappingChange::kMap, part_of(*now, start, end)});
    if (kept && old->protection != now->protection)
      made.push_back({MappingChange::kProtect, part_of(*now, start, end)});
  }
  gone.insert(gone.end(), std::make_move_iterator(made.begin()), std::make_move_iterator(made.end()));
  return gone;
}

}  // namespace godwit::migrate
