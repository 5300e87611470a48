// The first node's log: what was committed survives any cut of the file, and damage is told from a torn tail.
#include "tuplespace/node/local_log.hh"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>

#include "support/godwit_process.hh"
#include "tuplespace/node/loop.hh"
#include "tuplespace/posix/file.hh"

namespace godwit {
namespace {

using test::TempFolder;

// A log with a loop to hear from it.
struct OpenLog {
  Loop loop;
  LocalLog::Recovered recovered;
  std::vector<CommandLog::Entry> committed;

  explicit OpenLog(const std::string& folder) {
    auto opened = LocalLog::open(folder, [this](auto work) { loop.post(std::move(work)); });
    EXPECT_TRUE(opened) << opened.error().message();
    recovered = std::move(*opened);
    recovered.log->on_commit([this](const auto& entry) { committed.push_back(entry); });
  }
  LocalLog& log() { return *recovered.log; }
  Result<uint64_t> append(const std::string& batch) {
    std::optional<Result<uint64_t>> answer;
    log().append(batch, [&](Result<uint64_t> index) { answer = std::move(index); });
    while (!answer) loop.run_once(std::chrono::seconds(10));
    return *answer;
  }
};

std::string only_file(const std::string& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().filename().string().starts_with("wal.")) return entry.path();
  return {};
}

std::vector<std::string> batches(const std::vector<CommandLog::Entry>& entries) {
  std::vector<std::string> out;
  for (const auto& entry : entries) out.push_back(entry.batch);
  return out;
}

TEST(LocalLog, GivesBackWhatWasCommittedInOrder) {
  TempFolder folder;
  {
    OpenLog open(folder.path());
    EXPECT_EQ(*open.append("one"), 1u);
    EXPECT_EQ(*open.append("two"), 2u);
    EXPECT_EQ(open.log().last(), 2u);
  }
  OpenLog again(folder.path());
  EXPECT_EQ(batches(again.recovered.entries), (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(*again.append("three"), 3u);
  EXPECT_EQ(batches(again.log().read(2, 1000)), (std::vector<std::string>{"two", "three"}));
}

TEST(LocalLog, CommitsTogetherWhatWasAppendedTogetherAndTellsInOrder) {
  TempFolder folder;
  OpenLog open(folder.path());
  std::vector<uint64_t> indexes;
  for (int i = 0; i < 100; ++i)
    open.log().append(std::to_string(i), [&](Result<uint64_t> index) { indexes.push_back(*index); });
  while (indexes.size() < 100) open.loop.run_once(std::chrono::seconds(10));
  for (uint64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(indexes[i], i + 1);
    EXPECT_EQ(open.committed[i].batch, std::to_string(i));
  }
}

TEST(LocalLog, CutAtEveryByteItKeepsAPrefixAndGoesOn) {
  TempFolder whole;
  std::vector<std::string> all{"alpha", "", "gamma gamma", "delta"};
  std::vector<size_t> sizes;
  {
    OpenLog open(whole.path());
    sizes.push_back(std::filesystem::file_size(only_file(whole.path())));  // the file's head
    for (const auto& batch : all) {
      ASSERT_TRUE(open.append(batch));
      sizes.push_back(std::filesystem::file_size(only_file(whole.path())));
    }
  }
  std::string bytes = *read_file(only_file(whole.path()));
  std::string name = std::filesystem::path(only_file(whole.path())).filename();
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    TempFolder folder;
    std::ofstream(folder.path() + "/" + name) << bytes.substr(0, cut);
    size_t kept = static_cast<size_t>(std::upper_bound(sizes.begin() + 1, sizes.end(), cut) - sizes.begin()) - 1;
    {
      OpenLog open(folder.path());
      EXPECT_EQ(batches(open.recovered.entries), std::vector<std::string>(all.begin(), all.begin() + kept)) << cut;
      EXPECT_EQ(open.recovered.torn_bytes, cut < sizes[0] ? cut : cut - sizes[kept]);
      EXPECT_EQ(*open.append("after"), kept + 1);
    }
    OpenLog again(folder.path());
    EXPECT_EQ(again.recovered.entries.back().batch, "after");
  }
}

TEST(LocalLog, RefusesDamageInTheMiddle) {
  TempFolder folder;
  {
    OpenLog open(folder.path());
    for (auto batch : {"first", "second", "third"}) ASSERT_TRUE(open.append(batch));
  }
  std::string path = only_file(folder.path());
  std::string bytes = *read_file(path);
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string flipped = bytes;
    flipped[at] ^= 0x20;
    std::ofstream(path, std::ios::trunc) << flipped;
    auto opened = LocalLog::open(folder.path(), [](auto) {});
    bool in_last = at >= bytes.size() - (28 + 5);  // its head, and "third"
    EXPECT_EQ(opened.has_value(), in_last) << at;
    if (in_last) { EXPECT_EQ(opened->entries.size(), 2u); }
  }
}

TEST(LocalLog, ASnapshotStandsForWhatIsTrimmed) {
  TempFolder folder;
  {
    OpenLog open(folder.path());
    for (int i = 1; i <= 10; ++i) ASSERT_TRUE(open.append(std::to_string(i)));
    open.log().trim(8, "state at 8");
    ASSERT_TRUE(open.append("11"));
  }
  OpenLog again(folder.path());
  EXPECT_EQ(again.recovered.snapshot, "state at 8");
  EXPECT_EQ(again.recovered.snapshot_index, 8u);
  EXPECT_EQ(batches(again.recovered.entries), (std::vector<std::string>{"9", "10", "11"}));
  again.log().trim(11, "state at 11");
  ASSERT_TRUE(again.append("12"));
  again.log().trim(12, "state at 12");
  again.recovered.log.reset();  // waits for the writer
  OpenLog third(folder.path());
  EXPECT_EQ(third.recovered.snapshot, "state at 12");
  EXPECT_TRUE(third.recovered.entries.empty());
  EXPECT_EQ(*third.append("13"), 13u);
}

TEST(LocalLog, AFailedWriteIsRefusedAndLeavesNoTrace) {
  TempFolder folder;
  OpenLog open(folder.path());
  ASSERT_TRUE(open.append("kept"));
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_IGN);
  rlimit small{std::filesystem::file_size(only_file(folder.path())) + 5, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  auto refused = open.append("too long for the disk");
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_FALSE(refused);
  EXPECT_EQ(*open.append("fits"), 2u);
  open.recovered.log.reset();
  OpenLog again(folder.path());
  EXPECT_EQ(batches(again.recovered.entries), (std::vector<std::string>{"kept", "fits"}));
}

}  // namespace
}  // namespace godwit
