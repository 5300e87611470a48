// Differences between two layouts of an address space, checked page by page against a model.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <map>

#include "migrate/maps.hh"

namespace godwit::migrate {

namespace {

// What a page is: protection, and file offset (or anonymous).
using Page = std::pair<uint32_t, std::string>;
using Pages = std::map<uint64_t, Page>;

Page page_of(const Mapping& m, uint64_t at) {
  return {m.protection, m.anonymous() ? "" : m.path + std::to_string(m.offset + (at - m.start))};
}

void apply(Pages& pages, const Mapping& m) {
  for (uint64_t at = m.start; at < m.end; at += kPage) pages[at] = page_of(m, at);
}

Pages pages_of(const std::vector<Mapping>& list) {
  Pages pages;
  for (const Mapping& m : list) apply(pages, m);
  return pages;
}

std::vector<Mapping> any_layout() {
  std::vector<Mapping> list;
  uint64_t at = kPage;
  for (int n = *rc::gen::inRange(0, 12); n > 0; --n) {
    Mapping m;
    m.start = at + kPage * *rc::gen::inRange<uint64_t>(0, 3);
    m.end = at = m.start + kPage * *rc::gen::inRange<uint64_t>(1, 5);
    m.protection = *rc::gen::element(1u, 3u, 5u);
    if (*rc::gen::arbitrary<bool>()) m.flags = Mapping::kAnonymous;
    else m.path = "/lib", m.offset = kPage * *rc::gen::inRange<uint64_t>(0, 3);
    list.push_back(m);
  }
  return list;
}

}  // namespace

RC_GTEST_PROP(Layout, ChangesTurnOneIntoTheOther, ()) {
  auto before = any_layout(), after = any_layout();
  Pages pages = pages_of(before);
  for (const MappingChange& c : changes_between(before, after)) {
    const Mapping& m = c.mapping;
    for (uint64_t at = m.start; at < m.end; at += kPage) {
      if (c.kind == MappingChange::kUnmap) RC_ASSERT(pages.erase(at) == 1u);
      if (c.kind == MappingChange::kMap) RC_ASSERT(pages.emplace(at, page_of(m, at)).second);
      if (c.kind == MappingChange::kProtect) pages.at(at).first = m.protection;
    }
  }
  RC_ASSERT(pages == pages_of(after));
}

TEST(Layout, ThatGrowsKeepsWhatWasThere) {
  Mapping heap;
  heap.start = 0x10000, heap.end = 0x20000, heap.protection = 3, heap.flags = Mapping::kAnonymous;
  Mapping grown = heap;
  grown.end = 0x30000;
  auto changes = changes_between({heap}, {grown});
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].kind, MappingChange::kMap);
  EXPECT_EQ(changes[0].mapping.start, 0x20000u);
}

TEST(Layout, IsReadFromText) {
  Layout layout = parse_layout(
      "00400000-00401000 r-xp 00000000 08:01 77                       /bin/with blank\n"
      "7f0000000000-7f0000002000 rw-s 00005000 00:1a 9                /dev/shm/segment\n"
      "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                [stack]\n"
      "7ffc00030000-7ffc00034000 r--p 00000000 00:00 0                [vvar]\n"
      "7ffc00034000-7ffc00036000 r-xp 00000000 00:00 0                [vdso]\n",
      SegmentMark{"00:1a 9"});
  EXPECT_EQ(layout.refusal, "");
  ASSERT_EQ(layout.mappings.size(), 2u);
  EXPECT_EQ(layout.mappings[0].path, "/bin/with blank");
  EXPECT_TRUE(layout.mappings[1].flags & Mapping::kStack);
  EXPECT_EQ(layout.vdso_text, 0x7ffc00034000u);
  EXPECT_EQ(layout.vdso_start, 0x7ffc00030000u);
}

}  // namespace godwit::migrate
