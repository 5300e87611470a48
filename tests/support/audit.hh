// Whether a segment's spaces are whole, seen while nobody works on them.
#pragma once
#include <gtest/gtest.h>

#include <map>

#include "tuplespace/shared/allocator.hh"
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/reap.hh"
#include "tuplespace/store/requests.hh"
#include "tuplespace/store/spaces_table.hh"
#include "tuplespace/store/transactions.hh"

namespace godwit::testing {

/// Drops every space and expects that no memory is left in use by spaces but the roots and this thread's bench.
inline void expect_all_memory_back(store::Desk& desk) {
  using namespace shared;
  for (const SpaceFacts& space : store::list_spaces(desk)) {
    EXPECT_FALSE(space.damaged) << space.name;
    EXPECT_TRUE(store::drop_space(desk, space.name).has_value());
  }
  EXPECT_TRUE(store::end_requests(desk, *desk.bench));
  EXPECT_TRUE(store::end_transactions(desk, *desk.bench));
  store::flush_all(desk, *desk.bench);
  std::map<RunKind, int> runs;
  struct Head {
    uint32_t next, previous, size_class, capacity, free;
  };
  for_each_run(desk.self.segment, [&](Offset offset, const Chunk& chunk) {
    ++runs[chunk.kind];
    if (chunk.kind != RunKind::kBlocks) return;
    const Head& head = *desk.self.segment.at<Head>(offset);
    EXPECT_EQ(head.free, head.capacity) << "blocks of " << store::block_size(static_cast<uint8_t>(head.size_class)) << " bytes leaked";
  });
  EXPECT_EQ(runs[RunKind::kTuple], 0);
  EXPECT_EQ(runs[RunKind::kTable], 0);
  EXPECT_EQ(runs[RunKind::kBench], 1);
  for (uint32_t name = 0; name < kLocks; ++name) EXPECT_EQ(desk.header().locks[name].word.load(), 0u) << "lock " << name;
}

}  // namespace godwit::testing
