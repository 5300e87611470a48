#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "tests/support/segment.hh"
#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/socket.hh"

namespace godwit::shared {
namespace {

using testing::TestSegment;

TEST(Segment, IsRefusedWhenItsVersionIsAnother) {
  TestSegment test;
  test.segment().header().version++;
  Segment other;
  EXPECT_EQ(Segment::open(test.name().c_str(), &other), -EPROTO);
}

// Anybody can foresee a segment's name, and make a file there first.
TEST(Segment, IsRefusedUnlessItIsTheUsersAlone) {
  TestSegment test;
  std::string path = "/dev/shm/" + test.name();
  Segment other;
  ASSERT_EQ(chmod(path.c_str(), 0666), 0);
  EXPECT_EQ(Segment::open(test.name().c_str(), &other), -EACCES);
  ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  if (geteuid() == 0) {
    ASSERT_EQ(chown(path.c_str(), 65534, 65534), 0);
    EXPECT_EQ(Segment::open(test.name().c_str(), &other), -EACCES);
    ASSERT_EQ(chown(path.c_str(), 0, 0), 0);
  }
  EXPECT_EQ(Segment::open(test.name().c_str(), &other), 0);
}

TEST(Segment, IsRefusedWhenItIsNone) {
  TestSegment test;
  test.segment().header().magic = 0x1234;
  Segment other;
  EXPECT_EQ(Segment::open(test.name().c_str(), &other), -EBADMSG);
}

TEST(Segment, IsNotMadeTwice) {
  TestSegment test;
  EXPECT_EQ(Segment::create(test.name().c_str(), 1 << 30), -EEXIST);
}

TEST(Segment, PieceIsTheSameMemoryAtAnotherAddress) {
  TestSegment test;
  Thread self = test.join();
  Offset offset;
  ASSERT_EQ(allocate(self, kSocketLength, RunKind::kSocket, 7, &offset), 0);
  publish(self);
  char* piece = static_cast<char*>(map_piece(test.segment(), offset, kSocketLength));
  ASSERT_NE(piece, nullptr);
  *test.segment().at<uint64_t>(offset + 104) = 42;
  EXPECT_EQ(*reinterpret_cast<uint64_t*>(piece + 104), 42u);
  munmap(piece, kSocketLength);
}

TEST(Allocator, GivesARunBackAndUsesItAgain) {
  TestSegment test;
  Thread self = test.join();
  Offset first, second;
  ASSERT_EQ(allocate(self, kSocketLength, RunKind::kSocket, 7, &first), 0);
  uint64_t used = test.segment().header().used_chunks;
  free_intent(self);
  EXPECT_EQ(test.segment().header().used_chunks, used - kSocketLength / kChunk);
  ASSERT_EQ(allocate(self, kSocketLength, RunKind::kSocket, 7, &second), 0);
  EXPECT_EQ(first, second);
}

TEST(Allocator, GivesThePagesOfLargeRunsBackAtOnce) {
  TestSegment test;
  Thread self = test.join();
  auto pages = [&] {
    struct stat st;
    EXPECT_EQ(stat(("/dev/shm/" + test.name()).c_str(), &st), 0);
    return st.st_blocks / 8;
  };
  Offset run;
  ASSERT_EQ(allocate(self, 100 << 20, RunKind::kTuple, 0, &run), 0);
  ASSERT_EQ(reserve(test.segment().base() + run, 100 << 20), 0);
  EXPECT_GT(pages(), 100 << 8);
  free_intent(self);
  EXPECT_LT(pages(), 10 << 8);
}

TEST(Allocator, SaysWhenTheSegmentIsFullAndRecovers) {
  TestSegment test(256 << 20);
  Thread self = test.join();
  std::vector<Offset> runs;
  Offset offset;
  while (allocate(self, kSocketLength, RunKind::kSocket, 7, &offset) == 0) {
    publish(self);
    runs.push_back(offset);
  }
  EXPECT_GT(runs.size(), 500u);
  intend(self, runs.back());
  free_intent(self);
  EXPECT_EQ(allocate(self, kChunk, RunKind::kSet, 7, &offset), 0) << "a longer run is cut";
}

TEST(Recovery, GivesBackTheIntentOfAKilledProcess) {
  TestSegment test;
  Thread self = test.join();
  uint64_t used = test.segment().header().used_chunks;
  pid_t child = fork();
  if (child == 0) {
    Thread mine;
    mine.segment = test.segment();
    Offset offset;
    if (claim_slot(mine, test.segment().area_of(0)) != 0) _exit(1);
    if (allocate(mine, kSocketLength, RunKind::kSocket, 9, &offset) != 0) _exit(2);
    lock(mine, kDirectory);
    raise(SIGKILL);
  }
  int status;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  lock(self, kDirectory);
  unlock(self, kDirectory);
  EXPECT_EQ(reap(self), 1u);
  EXPECT_EQ(test.segment().header().used_chunks, used);
  EXPECT_EQ(reap(self), 0u);
}

}  // namespace
}  // namespace godwit::shared
