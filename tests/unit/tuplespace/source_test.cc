// Socket traffic as tuples: over a segment of the test's own, with the source in one thread and programs in others.
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include <algorithm>
#include <random>
#include <thread>

#include "tests/support/segment.hh"
#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/bell.hh"
#include "tuplespace/streams/source.hh"
#include "tuplespace/text.hh"

namespace godwit {
namespace {

using shared::Socket;
using shared::Thread;
using std::chrono::seconds;
using testing::TestSegment;

constexpr uint64_t kClient = 7, kServer = 8;

Template wanted(const char* text) {
  auto parsed = parse_template(text);
  GODWIT_CHECK(parsed);
  return *parsed;
}
const Template kStream = wanted("(\"stream\", ?, ?, ?, ?)");
const Template kConnect = wanted("(\"connect\", ?, ?, ?, ?)");

char pattern(uint64_t offset) { return static_cast<char>(offset * 2654435761 >> 13); }

uint64_t offset_of(const Tuple& t) { return static_cast<uint64_t>(*t[3].get<int64_t>()); }
const std::string& data_of(const Tuple& t) { return t[4].get<Bytes>()->data; }

class SourceTest : public ::testing::Test {
 protected:
  // A connection that has knocked and is not accepted.
  Socket& connect(Thread& self) {
    shared::Offset offset;
    EXPECT_EQ(shared::allocate_socket(self, AF_INET, kClient, &offset), 0);
    Socket& socket = *self.segment.at<Socket>(offset);
    socket.id = shared::next_connection(self.segment);
    socket.ends[1].pod = kServer;
    for (int i = 0; i < 2; ++i) {
      socket.ends[i].address.family = AF_INET;
      memcpy(socket.ends[i].address.bytes, "\x7f\0\0\1", 4);
    }
    socket.ends[0].address.port = 40000;
    socket.ends[1].address.port = 6379;
    socket.state.store(shared::SocketState::kConnected, std::memory_order_release);
    shared::publish(self);
    shared::notify_connection(self);
    return socket;
  }
  static void put(Thread& self, Socket& socket, uint32_t side, std::string_view bytes) {
    put_silently(socket, side, bytes);
    shared::notify(self, socket, 1 - side, EPOLLIN, -1);
  }
  static void put_silently(Socket& socket, uint32_t side, std::string_view bytes) {
    iovec iov{const_cast<char*>(bytes.data()), bytes.size()};
    ASSERT_EQ(shared::put(socket, side, &iov, 1), static_cast<ssize_t>(bytes.size()));
  }
  static uint64_t take(Socket& socket, uint32_t side, uint64_t most) {
    std::string s(most, 0);
    iovec iov{s.data(), most};
    return static_cast<uint64_t>(shared::take(socket, side, &iov, 1, false));
  }
  uint64_t count(const Template& t) { return godwit::count(source_, TemplateViews(t)); }
  std::string rdp(const Template& t) {
    auto found = godwit::rdp(source_, TemplateViews(t));
    return found ? to_text(*found) : "absent";
  }
  uint32_t generation() { return test_.segment().header().net_generation.load(); }
  uint32_t armed() { return test_.segment().header().net_armed.load(); }
  void wait_armed() {
    while (armed() == 0) std::this_thread::yield();
  }

  TestSegment test_;
  Thread self_ = test_.join();
  StreamSource source_{self_, [](uint64_t) { return true; }};
};

TEST_F(SourceTest, AConnectionIsATupleUntilItIsAccepted) {
  EXPECT_EQ(rdp(kConnect), "absent");
  Socket& socket = connect(self_);
  EXPECT_EQ(rdp(kConnect), R"(("connect", "127.0.0.1", 6379, "000000-1", "127.0.0.1:40000"))");
  EXPECT_EQ(count(wanted(R"(("connect", ?string, 6379, ?, ?))")), 1u);
  EXPECT_EQ(count(wanted(R"(("connect", ?, 6380, ?, ?))")), 0u);
  socket.accepted.store(1);
  EXPECT_EQ(count(kConnect), 0u);
}

TEST_F(SourceTest, UnreadBytesAreATupleThatShrinksAsTheyAreRead) {
  Socket& socket = connect(self_);
  EXPECT_EQ(count(kStream), 0u);
  put(self_, socket, 0, "hello world");
  EXPECT_EQ(rdp(kStream), R"(("stream", "000000-1", "c>s", 0, b"hello world"))");
  put(self_, socket, 1, "back");
  EXPECT_EQ(count(kStream), 2u);
  EXPECT_EQ(rdp(wanted(R"((?, ?, "s>c", ?, b"ba"*))")), R"(("stream", "000000-1", "s>c", 0, b"back"))");
  take(socket, 1, 6);
  EXPECT_EQ(rdp(kStream), R"(("stream", "000000-1", "c>s", 6, b"world"))");
  take(socket, 1, 100);
  EXPECT_EQ(count(kStream), 1u);
  take(socket, 0, 100);
  EXPECT_EQ(count(kStream), 0u);
}

TEST_F(SourceTest, ATupleCountsOnceThoughSeveralTemplatesMatchIt) {
  put(self_, connect(self_), 0, "x");
  std::vector<Template> both{kStream, wanted("(?, ?, \"c>s\", ?, ?)"), kConnect};
  EXPECT_EQ(godwit::count(source_, TemplateViews(both)), 2u);
}

TEST_F(SourceTest, OlderConnectionsComeFirst) {
  Socket& old = connect(self_);
  Socket& young = connect(self_);
  put(self_, young, 0, "young");
  put(self_, old, 1, "old");
  EXPECT_EQ(rdp(kStream), R"(("stream", "000000-1", "s>c", 0, b"old"))");
}

TEST_F(SourceTest, WhatNobodyWillReadIsNoTuple) {
  Socket& socket = connect(self_);
  put(self_, socket, 0, "x");
  shared::close_end(socket, 1, false);
  EXPECT_EQ(count(kStream), 0u);
  EXPECT_EQ(count(kConnect), 0u) << "the server is gone, too";
}

TEST_F(SourceTest, ARingThatIsFullAndHasGoneRoundIsShownWhole) {
  Socket& socket = connect(self_);
  put_silently(socket, 0, std::string(100000, 'a'));
  take(socket, 1, 100000);
  std::string all(shared::kRing, 0);
  for (size_t i = 0; i < all.size(); ++i) all[i] = pattern(100000 + i);
  put_silently(socket, 0, all);
  auto found = godwit::rdp(source_, TemplateViews(kStream));
  ASSERT_TRUE(found);
  EXPECT_EQ(offset_of(*found), 100000u);
  EXPECT_TRUE(data_of(*found) == all);
}

TEST_F(SourceTest, BetweenHostsEachByteIsShownByOne) {
  Socket& socket = connect(self_);
  auto at = [&](uint64_t pod) { return StreamSource(self_, [pod](uint64_t p) { return p == pod; }); };
  StreamSource of_client = at(kClient), of_server = at(kServer), of_none = at(99);
  put_silently(socket, 0, "0123456789");
  socket.rings[0].sent.store(4);
  auto seen = [&](StreamSource& s) {
    auto found = godwit::rdp(s, TemplateViews(kStream));
    return found ? to_text(Tuple{(*found)[3], (*found)[4]}) : "absent";
  };
  EXPECT_EQ(seen(of_client), R"((4, b"456789"))") << "the writer's host: what is not handed over";
  EXPECT_EQ(seen(of_server), R"((0, b"0123456789"))") << "the reader's host: what has arrived";
  EXPECT_EQ(seen(of_none), "absent");
  EXPECT_EQ(godwit::count(of_client, TemplateViews(kConnect)), 0u) << "it waits where the server is";
  EXPECT_EQ(godwit::count(of_server, TemplateViews(kConnect)), 1u);
  socket.rings[0].sent.store(10);
  EXPECT_EQ(seen(of_client), "absent");
}

TEST_F(SourceTest, PodsOfTheSegmentAreHereByDefault) {
  StreamSource source(self_);
  put(self_, connect(self_), 0, "x");
  EXPECT_EQ(godwit::count(source, TemplateViews(kStream)), 0u) << "neither pod is a member of this segment";
}

// --- exactness ---------------------------------------------------------------------------------------

// Writer and reader at full speed, with rings that go round again and again: every byte shown is the right one, and
// what is shown was unread within the time of the look.
TEST_F(SourceTest, BytesAreRightWhileTheyAreWrittenAndRead) {
  Socket& socket = connect(self_);
  shared::Ring& ring = socket.rings[0];
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    Thread self = test_.join();
    std::mt19937 random(1);
    std::string block;
    for (uint64_t at = 0; !stop;) {
      block.resize(1 + random() % (random() % 8 ? 3000 : 100000));
      for (size_t i = 0; i < block.size(); ++i) block[i] = pattern(at + i);
      iovec iov{block.data(), block.size()};
      ssize_t n = shared::put(socket, 0, &iov, 1);
      at += static_cast<uint64_t>(n);
      shared::notify(self, socket, 1, EPOLLIN, -1);
    }
    shared::release_slot(self);
  });
  std::thread reader([&] {
    std::mt19937 random(2);
    std::string block(200000, 0);
    for (uint64_t at = 0; !stop;) {
      if (random() % 256 && shared::readable(ring) < shared::kRing / 2) {  // mostly near full, where bytes are overwritten
        std::this_thread::yield();
        continue;
      }
      iovec iov{block.data(), 1 + random() % (random() % 8 ? 3000 : 90000)};
      ssize_t n = shared::take(socket, 1, &iov, 1, false);
      for (ssize_t i = 0; i < n; ++i)
        if (block[static_cast<size_t>(i)] != pattern(at++)) abort();
    }
  });
  int shown = 0, looks = 0;
  for (; shown < 1000; ++looks) {
    uint64_t head = ring.head.load();
    auto found = godwit::rdp(source_, TemplateViews(kStream));
    uint64_t tail = ring.tail.load();
    if (!found) continue;
    ++shown;
    uint64_t offset = offset_of(*found);
    const std::string& data = data_of(*found);
    ASSERT_GE(offset, head);
    ASSERT_LE(offset + data.size(), tail);
    ASSERT_LE(data.size(), shared::kRing);
    for (size_t i = 0; i < data.size(); ++i) ASSERT_EQ(data[i], pattern(offset + i)) << "at " << offset << " + " << i;
  }
  stop = true;
  writer.join();
  reader.join();
  printf("%d looks, %d tuples, %.1f MB passed\n", looks, shown, static_cast<double>(ring.tail.load()) / 1e6);
}

// The reader takes whole blocks and the writer writes one only when the ring is empty: so at every moment there is one
// block unread or nothing, and a look that mixed two moments would show something else.
TEST_F(SourceTest, ATupleIsOfOneMoment) {
  constexpr uint64_t kBlock = 5000;
  Socket& socket = connect(self_);
  std::atomic<bool> stop = false;
  std::thread program([&] {
    std::string block(kBlock, 'x');
    while (!stop) {
      put_silently(socket, 0, block);
      for (int i = 0; i < 200; ++i) shared::cpu_relax();
      take(socket, 1, kBlock);
      for (int i = 0; i < 50; ++i) shared::cpu_relax();
    }
  });
  int shown = 0;
  auto end = std::chrono::steady_clock::now() + seconds(2);
  while (std::chrono::steady_clock::now() < end) {
    auto found = godwit::rdp(source_, TemplateViews(kStream));
    if (!found) continue;
    ++shown;
    EXPECT_EQ(data_of(*found).size(), kBlock);
    EXPECT_EQ(offset_of(*found) % kBlock, 0u);
  }
  stop = true;
  program.join();
  EXPECT_GT(shown, 100);
}

// --- waiting -----------------------------------------------------------------------------------------

class Waiter {
 public:
  Waiter(TestSegment& test, const Template& wanted, Deadline deadline)
      : thread_([&test, this, wanted, deadline] {
          Thread self = test.join();
          StreamSource source(self, [](uint64_t) { return true; });
          found_ = rd(source, TemplateViews(wanted), deadline);
          shared::release_slot(self);
        }) {}
  std::string result() {
    thread_.join();
    return found_ ? to_text(*found_) : "timed out";
  }

 private:
  std::optional<Tuple> found_;
  std::thread thread_;
};

Deadline soon() { return std::chrono::steady_clock::now() + seconds(20); }

TEST_F(SourceTest, ABlockedRdWakesWhenBytesCome) {
  Socket& socket = connect(self_);
  for (uint32_t ring = 0; ring < 2; ++ring) {
    test_.segment().header().net_armed.store(0);
    Waiter waiter(test_, wanted(ring ? "(\"stream\", ?, \"s>c\", ?, ?)" : "(\"stream\", ?, \"c>s\", ?, ?)"), soon());
    wait_armed();
    put(self_, socket, ring, "x");
    EXPECT_NE(waiter.result(), "timed out");
  }
}

TEST_F(SourceTest, ABlockedRdWakesWhenAConnectionComes) {
  Waiter waiter(test_, kConnect, soon());
  wait_armed();
  connect(self_);
  EXPECT_NE(waiter.result(), "timed out");
}

TEST_F(SourceTest, ABlockedRdWakesForBytesOfAConnectionMadeSince) {
  Waiter waiter(test_, kStream, soon());
  wait_armed();
  Socket& socket = connect(self_);
  put(self_, socket, 1, "x");
  EXPECT_NE(waiter.result(), "timed out");
}

TEST_F(SourceTest, ABlockedRdEndsAtItsDeadline) {
  Waiter waiter(test_, kStream, std::chrono::steady_clock::now() + std::chrono::milliseconds(50));
  EXPECT_EQ(waiter.result(), "timed out");
}

// Two watchers and two writers on several rings: none of the wake-ups may be lost, whoever arms or disarms meanwhile.
TEST_F(SourceTest, NoWakeUpIsLost) {
  constexpr int kRounds = 3000;
  Socket& a = connect(self_);
  Socket& b = connect(self_);
  std::atomic<int> seen[2] = {0, 0};
  std::atomic<bool> lost = false;
  auto watch = [&](int i, Socket& socket) {
    Thread self = test_.join();
    StreamSource source(self, [](uint64_t) { return true; });
    char text[shared::kConnectionText];
    shared::connection_text(socket.id, text);
    for (int round = 0; round < kRounds && !lost; ++round) {
      Template mine{"stream", std::string(text), AnyFormal{}, int64_t{round}, AnyFormal{}};
      if (!rd(source, TemplateViews(mine), soon())) lost = true;
      take(socket, 1, 1);
      seen[i].store(round + 1);
    }
    shared::release_slot(self);
  };
  auto write = [&](int i, Socket& socket) {
    Thread self = test_.join();
    for (int round = 0; round < kRounds && !lost; ++round) {
      put(self, socket, 0, "x");
      while (seen[i].load() <= round && !lost) std::this_thread::yield();
    }
    shared::release_slot(self);
  };
  std::thread threads[] = {std::thread(watch, 0, std::ref(a)), std::thread(watch, 1, std::ref(b)),
                           std::thread(write, 0, std::ref(a)), std::thread(write, 1, std::ref(b))};
  for (auto& thread : threads) thread.join();
  EXPECT_FALSE(lost);
}

TEST_F(SourceTest, AWriterPaysForALookOnceAndNotAtAllWithoutOne) {
  Socket& socket = connect(self_);
  uint32_t before = generation();
  put(self_, socket, 0, "x");
  EXPECT_EQ(generation(), before);
  source_.subscribe(TemplateViews(kStream));
  for (int i = 0; i < 5; ++i) put(self_, socket, 0, "x");
  EXPECT_EQ(generation(), before + 1);
}

TEST_F(SourceTest, OnlyTheStreamsThatMayMatchAreArmed) {
  Socket& socket = connect(self_);
  Template other = wanted(R"(("stream", "000000-1", "s>c", ?, ?))");
  source_.subscribe(TemplateViews(other));
  EXPECT_EQ(socket.ends[1].net_armed.load(), 0u);
  EXPECT_NE(socket.ends[0].net_armed.load(), 0u);
}

TEST_F(SourceTest, AKilledWatcherCostsOneRing) {
  Socket& socket = connect(self_);
  pid_t child = fork();
  if (child == 0) {
    Thread self = test_.join();
    StreamSource source(self, [](uint64_t) { return true; });
    (void)rd(source, TemplateViews(kStream));
    _exit(0);
  }
  while (socket.ends[1].net_armed.load() == 0) std::this_thread::yield();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  uint32_t before = generation();
  for (int i = 0; i < 100; ++i) put(self_, socket, 0, "x");
  EXPECT_EQ(generation(), before + 1);
  EXPECT_EQ(socket.ends[1].net_armed.load(), 0u);
  connect(self_);
  EXPECT_EQ(generation(), before + 2);
  connect(self_);
  EXPECT_EQ(generation(), before + 2);
  EXPECT_EQ(shared::reap(self_), 1u);
}

TEST_F(SourceTest, AWriterKilledBeforeItsRingIsRungForByTheReaper) {
  Socket& socket = connect(self_);
  Waiter waiter(test_, kStream, soon());
  while (socket.ends[1].net_armed.load() == 0) std::this_thread::yield();
  pid_t child = fork();
  if (child == 0) {
    [[maybe_unused]] Thread self = test_.join();
    put_silently(socket, 0, "last words");
    kill(getpid(), SIGKILL);
  }
  waitpid(child, nullptr, 0);
  EXPECT_EQ(shared::reap(self_), 1u);
  EXPECT_EQ(waiter.result(), R"(("stream", "000000-1", "c>s", 0, b"last words"))");
}

}  // namespace
}  // namespace godwit
