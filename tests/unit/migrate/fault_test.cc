// Fault points: named, counted, listed.
#include "tuplespace/fault.hh"

#include <gtest/gtest.h>

#include <algorithm>

namespace godwit {

namespace {
bool passes() { return GODWIT_FAULT_ERROR("test.point"); }
}  // namespace

TEST(Fault, StrikesAtTheNthPassingOnly) {
  fault_in_force().set("test.point:3:error");
  EXPECT_FALSE(passes());
  EXPECT_FALSE(passes());
  EXPECT_TRUE(passes());
  EXPECT_FALSE(passes());
  fault_in_force().set("");
}

TEST(Fault, OfAnotherNameDoesNotStrike) {
  fault_in_force().set("test.other:error");
  EXPECT_FALSE(passes());
  fault_in_force().set("");
}

TEST(Fault, PointsAreListed) {
  auto all = fault_points();
  EXPECT_EQ(std::count(all.begin(), all.end(), "test.point"), 1);
}

TEST(FaultDeathTest, KillsByDefault) {
  EXPECT_EXIT({ fault_in_force().set("test.point"); (void)passes(); }, testing::KilledBySignal(SIGKILL), "");
}

}  // namespace godwit
