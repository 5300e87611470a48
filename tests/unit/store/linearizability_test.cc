// The checker of histories: what it must accept, and what it must not.
#include "tests/support/linearizability.hh"

#include <gtest/gtest.h>

namespace godwit::testing {
namespace {

const Template kAny{AnyFormal{}}, kOne{1}, kTwo{2};

Event out(uint64_t begin, uint64_t end, int value) { return {Event::kOut, begin, end, {}, Tuple{value}}; }
Event take(uint64_t begin, uint64_t end, const Template& wanted, int value) { return {Event::kTake, begin, end, wanted, Tuple{value}}; }
Event read(uint64_t begin, uint64_t end, const Template& wanted, int value) { return {Event::kRead, begin, end, wanted, Tuple{value}}; }
Event absent(uint64_t begin, uint64_t end, const Template& wanted) { return {Event::kTake, begin, end, wanted}; }
Event counted(uint64_t begin, uint64_t end, uint64_t number) { return {Event::kCount, begin, end, kAny, std::nullopt, number}; }

bool allowed(std::vector<Event> events) { return is_linearizable(events); }

TEST(Linearizability, AnEmptyHistoryIsAllowed) { EXPECT_TRUE(allowed({})); }

TEST(Linearizability, OneAfterAnother) {
  EXPECT_TRUE(allowed({out(1, 2, 1), read(3, 4, kAny, 1), take(5, 6, kOne, 1), absent(7, 8, kAny)}));
  EXPECT_FALSE(allowed({out(1, 2, 1), take(3, 4, kOne, 1), read(5, 6, kAny, 1)}));
  EXPECT_FALSE(allowed({take(1, 2, kAny, 1), out(3, 4, 1)}));
}

TEST(Linearizability, ATupleIsTakenOnce) {
  EXPECT_FALSE(allowed({out(1, 2, 1), take(3, 6, kAny, 1), take(4, 5, kOne, 1)}));
  EXPECT_TRUE(allowed({out(1, 2, 1), out(1, 2, 1), take(3, 6, kAny, 1), take(4, 5, kOne, 1)}));
}

TEST(Linearizability, TheOldestThatMatchesIsTaken) {
  EXPECT_FALSE(allowed({out(1, 2, 1), out(3, 4, 2), take(5, 6, kAny, 2)}));
  EXPECT_TRUE(allowed({out(1, 2, 1), out(3, 4, 2), take(5, 6, kTwo, 2)}));
  EXPECT_TRUE(allowed({out(1, 4, 1), out(2, 3, 2), take(5, 6, kAny, 2)}));
  EXPECT_TRUE(allowed({out(1, 2, 1), out(3, 4, 2), take(5, 8, kAny, 2), take(6, 7, kAny, 1)}));
}

TEST(Linearizability, OutsThatOverlapHaveOneOrderForAll) {
  EXPECT_FALSE(allowed({out(1, 4, 1), out(2, 3, 2), read(5, 6, kAny, 2), read(7, 8, kAny, 1)}));
  EXPECT_TRUE(allowed({out(1, 10, 1), out(1, 10, 2), read(2, 3, kOne, 1), read(4, 5, kTwo, 2), read(6, 7, kAny, 2)}));
  EXPECT_FALSE(allowed({out(1, 10, 1), out(1, 10, 2), read(2, 3, kOne, 1), absent(4, 5, kTwo), read(6, 7, kAny, 2)}));
}

TEST(Linearizability, AbsentOnlyIfThereWasAMomentWithout) {
  EXPECT_FALSE(allowed({out(1, 2, 1), absent(3, 4, kAny)}));
  EXPECT_TRUE(allowed({out(1, 4, 1), absent(2, 3, kAny)}));
  EXPECT_TRUE(allowed({out(1, 2, 1), absent(3, 4, kTwo)}));
  EXPECT_FALSE(allowed({out(1, 2, 1), out(3, 6, 1), take(4, 5, kAny, 1), absent(7, 8, kAny)}));
  EXPECT_TRUE(allowed({out(1, 2, 1), take(3, 8, kAny, 1), out(4, 9, 1), absent(5, 6, kAny)}));
}

TEST(Linearizability, WhoHasSeenATupleHasSeenThatItCame) {
  EXPECT_FALSE(allowed({out(1, 8, 1), read(2, 3, kAny, 1), absent(4, 5, kAny)}));
}

TEST(Linearizability, ACountIsOfOneMoment) {
  EXPECT_TRUE(allowed({out(1, 2, 1), out(3, 6, 2), counted(4, 5, 1)}));
  EXPECT_TRUE(allowed({out(1, 2, 1), out(3, 6, 2), counted(4, 5, 2)}));
  EXPECT_FALSE(allowed({out(1, 2, 1), out(3, 6, 2), counted(4, 5, 0)}));
  EXPECT_FALSE(allowed({out(1, 9, 1), counted(2, 3, 1), counted(4, 5, 0)}));
}

}  // namespace
}  // namespace godwit::testing
