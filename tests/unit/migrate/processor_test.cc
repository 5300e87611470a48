#include "migrate/processor.hh"

#include <gtest/gtest.h>

namespace godwit::migrate {
namespace {

TEST(Processor, RunsWhatBeganHere) { EXPECT_TRUE(can_run(this_processor())); }

TEST(Processor, RunsWhatNeedsLess) {
  Processor less = this_processor();
  less.features = {};
  EXPECT_TRUE(can_run(less));
}

TEST(Processor, RefusesEachFeatureThatIsMissing) {
  for (size_t word = 0; word < this_processor().features.size(); ++word) {
    Processor more = this_processor();
    if (~more.features[word] == 0) continue;
    more.features[word] = ~0u;
    auto outcome = can_run(more);
    ASSERT_FALSE(outcome) << word;
    EXPECT_EQ(outcome.error().code, std::errc::not_supported);
    EXPECT_NE(outcome.error().what.find("lacks features"), std::string::npos) << outcome.error().what;
  }
}

TEST(Processor, RefusesOtherExtendedRegisters) {
  Processor more = this_processor();
  more.xstate_components |= 1ull << 62;
  EXPECT_FALSE(can_run(more));
  Processor other = this_processor();
  other.xstate_offsets[2] += 64;  // AVX, which every processor of the last ten years has
  EXPECT_FALSE(can_run(other));
}

}  // namespace
}  // namespace godwit::migrate
