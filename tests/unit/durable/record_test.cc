// Records of the log, and what a log of them comes to.
#include <gtest/gtest.h>

#include "tuplespace/durable/survivors.hh"

namespace godwit {
namespace {

using store::Change, store::Record;

std::vector<Change> changes_of(std::string_view bytes) {
  std::vector<Change> all;
  EXPECT_TRUE(store::for_each_change(bytes, [&](const Change& change) { all.push_back(change); }));
  return all;
}

TEST(RecordTest, SaysWhatWasPutIntoIt) {
  Record record;
  record.create(1, "bag", {.capacity = 10, .blocks_when_full = true});
  record.put_until(1, 2, 3, "tuple");
  record.take(1, 2);
  record.drop(1);
  std::string bytes = record.take_bytes();
  auto all = changes_of(bytes);
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[0].kind, Change::kCreate);
  EXPECT_EQ(all[0].text, "bag");
  EXPECT_TRUE(all[0].options.blocks_when_full && all[0].options.durable);
  EXPECT_EQ(all[0].options.capacity, 10u);
  EXPECT_EQ(all[1].kind, Change::kPut);
  EXPECT_EQ(std::tuple(all[1].space, all[1].age, all[1].due, all[1].text), std::tuple(1u, 2u, 3u, "tuple"));
  EXPECT_EQ(std::tuple(all[2].kind, all[2].space, all[2].age), std::tuple(Change::kTake, 1u, 2u));
  EXPECT_EQ(std::tuple(all[3].kind, all[3].space), std::tuple(Change::kDrop, 1u));
}

TEST(RecordTest, IsRefusedWhereItIsCutOrOfAnotherKind) {
  Record record;
  record.put_until(1, 2, 0, "tuple");
  std::string bytes = record.take_bytes();
  for (size_t length = 1; length < bytes.size(); ++length) {
    std::string cut = bytes.substr(0, length);  // on its own, so that a byte too far is seen
    EXPECT_FALSE(store::for_each_change(cut, [](const Change&) { ADD_FAILURE(); })) << length;
  }
  bytes[0] = 9;
  EXPECT_FALSE(store::for_each_change(bytes, [](const Change&) { ADD_FAILURE(); }));
}

TEST(RecordTest, TimesGoFromOneClockToTheOther) {
  uint64_t due = store::monotonic_of(store::real_time_of(1'000'000'000'000'000));
  EXPECT_NEAR(static_cast<double>(due), 1e15, 1e9);
  EXPECT_GT(store::monotonic_of(1), 0u);
}

// What is left, as "SPACE AGE".
std::vector<std::string> left_of(const std::string& log) {
  Survivors survivors;
  std::vector<std::string> left;
  for (const Change& change : changes_of(log)) survivors.note(change);
  for (const Change& change : changes_of(log))
    if (survivors.keeps(change)) left.push_back(survivors.spaces().at(change.space).name + " " + std::to_string(change.age));
  return left;
}

TEST(SurvivorsTest, AreWhatNothingHasTaken) {
  Record log;
  log.create(1, "a", {});
  log.create(2, "b", {});
  for (uint64_t age : {1, 2, 3}) log.put(1, age, 0, "x"), log.put(2, age, 0, "x");
  log.take(1, 2);
  log.take(2, 3);
  log.take(1, 3);
  log.put(1, 3, 0, "x");  // it came back
  EXPECT_EQ(left_of(log.take_bytes()), (std::vector<std::string>{"a 1", "b 1", "b 2", "a 3"}));
}

TEST(SurvivorsTest, GoWithTheirSpace) {
  Record log;
  log.create(1, "a", {});
  log.put(1, 1, 0, "x");
  log.create(2, "b", {});
  log.put(2, 1, 0, "x");
  log.drop(2);
  log.create(3, "a", {});  // in the place of the first
  log.put(3, 7, 0, "x");
  log.put(1, 2, 0, "x");   // late
  EXPECT_EQ(left_of(log.take_bytes()), std::vector<std::string>{"a 7"});
}

}  // namespace
}  // namespace godwit
