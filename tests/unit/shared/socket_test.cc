#include <netinet/in.h>
#include <sys/epoll.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/segment.hh"
#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/bell.hh"

namespace godwit::shared {
namespace {

using testing::TestSegment;

class SocketTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Offset offset;
    ASSERT_EQ(allocate_socket(self_, AF_INET, 7, &offset), 0);
    publish(self_);
    socket_ = test_.segment().at<Socket>(offset);
  }
  std::string take_all(uint32_t side) {
    std::string s(kRing, 0);
    iovec iov{s.data(), s.size()};
    s.resize(static_cast<size_t>(take(*socket_, side, &iov, 1, false)));
    return s;
  }
  ssize_t put_text(uint32_t side, const std::string& s) {
    iovec iov{const_cast<char*>(s.data()), s.size()};
    return put(*socket_, side, &iov, 1);
  }
  TestSegment test_;
  Thread self_ = test_.join();
  Socket* socket_ = nullptr;
};

TEST_F(SocketTest, BytesComeOutAsTheyWentIn) {
  EXPECT_EQ(put_text(0, "hello"), 5);
  EXPECT_EQ(put_text(0, " world"), 6);
  EXPECT_EQ(take_all(1), "hello world");
  EXPECT_EQ(take_all(1), "");
  EXPECT_EQ(take_all(0), "") << "the other direction is another ring";
}

TEST_F(SocketTest, TakesNoMoreThanItsCapacityAndGoesRound) {
  std::string block(50000, 0);
  uint64_t sent = 0, got = 0;
  for (int round = 0; round < 100; ++round) {
    for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<char>((sent + i) * 31 >> 3);
    ssize_t n = put_text(0, block);
    ASSERT_GE(n, 0);
    sent += static_cast<uint64_t>(n);
    EXPECT_LE(sent - got, kRing);
    if (round % 3 != 2) continue;
    for (char c : take_all(1)) ASSERT_EQ(c, static_cast<char>(got++ * 31 >> 3));
  }
}

TEST_F(SocketTest, ReadinessFollowsTheRings) {
  EXPECT_EQ(readiness(*socket_, 1), uint32_t{EPOLLOUT | EPOLLWRNORM});
  put_text(0, "x");
  EXPECT_EQ(readiness(*socket_, 1), uint32_t{EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM});
  put_text(0, std::string(kRing, 'y'));
  EXPECT_FALSE(readiness(*socket_, 0) & EPOLLOUT);
  EXPECT_EQ(socket_->rings[0].writer_waits.load(), 1u);
  socket_->rings[0].finished = 1;
  EXPECT_TRUE(readiness(*socket_, 1) & EPOLLRDHUP);
}

TEST_F(SocketTest, ClosingWithBytesUnreadIsAReset) {
  put_text(0, "unread");
  EXPECT_FALSE(close_end(*socket_, 1, false));
  EXPECT_TRUE(socket_->ends[0].flags.load() & kReset);
  EXPECT_TRUE(close_end(*socket_, 0, false)) << "the second frees";
}

TEST_F(SocketTest, NamesParseBack) {
  uint64_t connection = next_connection(test_.segment()), id;
  Offset offset;
  Name name = connection_name(test_.segment(), connection, socket_->offset);
  ASSERT_TRUE(parse_connection_name(test_.segment(), name.text, name.length, &id, &offset));
  EXPECT_EQ(id, connection);
  EXPECT_EQ(offset, socket_->offset);
  EXPECT_FALSE(parse_listener_name(test_.segment(), name.text, name.length, &id));
  EXPECT_FALSE(parse_connection_name(test_.segment(), name.text, name.length - 1 - 5, &id, &offset));
}

TEST_F(SocketTest, ComingNamesCannotBeForeseen) {
  auto text = [](const Name& name) { return std::string(name.text, name.length); };
  auto tag = [&](const Name& name) { return text(name).substr(text(name).rfind('/') + 1); };
  const Segment& segment = test_.segment();
  Name seen = listener_name(segment, 5), coming = listener_name(segment, 6);
  EXPECT_EQ(tag(seen).size(), 16u);
  EXPECT_NE(tag(seen), tag(coming));
  EXPECT_NE(tag(connection_name(segment, 5, kChunk)), tag(connection_name(segment, 5, 2 * kChunk)));
  uint64_t id;
  ASSERT_TRUE(parse_listener_name(segment, coming.text, coming.length, &id));
  EXPECT_EQ(id, 6u);
  memcpy(coming.text + coming.length - 16, tag(seen).data(), 16);
  EXPECT_FALSE(parse_listener_name(segment, coming.text, coming.length, &id)) << "a name that somebody made up";
  Name node = node_name(segment), egress = listener_name(segment, kEgress);
  segment.header().node_generation.fetch_add(1);
  EXPECT_NE(text(node_name(segment)), text(node)) << "a dead node's name is not the next one's";
  EXPECT_NE(text(listener_name(segment, kEgress)), text(egress));
  EXPECT_EQ(text(listener_name(segment, 5)), text(seen));
  segment.header().secret[1]++;
  EXPECT_NE(text(listener_name(segment, 5)), text(seen));
}

TEST_F(SocketTest, ListenersAreFoundByPortAndCommonAddress) {
  Address any{}, loopback{}, other{};
  any.family = loopback.family = other.family = AF_INET;
  any.port = 0;
  uint64_t id;
  ASSERT_EQ(add_listener(self_, *socket_, &any, 7, &id), 0);
  EXPECT_NE(any.port, 0);
  loopback.port = other.port = any.port;
  memcpy(loopback.bytes, "\x7f\0\0\1", 4);
  memcpy(other.bytes, "\x0a\0\0\1", 4);
  Listener found;
  EXPECT_TRUE(find_listener(test_.segment(), loopback, &found));
  EXPECT_EQ(found.id, id);
  EXPECT_FALSE(find_listener(test_.segment(), other, &found));
  uint64_t second;
  EXPECT_EQ(add_listener(self_, *socket_, &loopback, 7, &second), -EADDRINUSE);
  remove_listener(self_, id);
  EXPECT_FALSE(find_listener(test_.segment(), loopback, &found));
}

TEST(Set, HarvestsEachMarkOnce) {
  auto set = std::make_unique<Set>();
  for (uint32_t i : {3u, 64u, 4095u, 65535u}) mark(*set, i);
  mark(*set, 3);
  std::vector<uint32_t> seen;
  EXPECT_TRUE(any_marked(*set));
  harvest(*set, [&](uint32_t i) {
    seen.push_back(i);
    return true;
  });
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, (std::vector<uint32_t>{3, 64, 4095, 65535}));
  EXPECT_FALSE(any_marked(*set));
}

TEST(Set, KeepsWhatAShortHarvestLeaves) {
  auto set = std::make_unique<Set>();
  for (uint32_t i = 0; i < 1000; ++i) mark(*set, i * 7);
  uint32_t total = 0;
  for (int round = 0; any_marked(*set) && round < 2000; ++round) {
    uint32_t n = 0;
    harvest(*set, [&](uint32_t) { return ++n < 3; });
    total += n;
  }
  EXPECT_EQ(total, 1000u);
}

}  // namespace
}  // namespace godwit::shared
