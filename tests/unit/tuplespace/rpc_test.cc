// Requests run once; retries get the same answer; strangers get nothing.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tuplespace/node/peers.hh"

namespace godwit {
namespace {

using std::chrono::seconds;

// A server on loopback with a loop of its own making.
struct Server {
  Loop& loop;
  Transport transport;
  RpcServer rpc;
  std::unique_ptr<Socket> router;
  std::unique_ptr<SocketWatcher> watcher;
  std::string address;

  Server(Loop& l, const CommunityKey& key) : loop(l), transport(key) {
    EXPECT_TRUE(transport.admit_community(loop));
    open("tcp://127.0.0.1:0");
  }
  void open(const std::string& endpoint) {
    auto made = transport.router(Transport::Security::kCurve);
    router = std::make_unique<Socket>(std::move(*made));
    auto bound = router->bind(endpoint);
    ASSERT_TRUE(bound) << bound.error().message();
    address = bound->substr(6);
    watcher = std::make_unique<SocketWatcher>(loop, *router,
                                              [this](Frames f) { rpc.on_message(*router, std::move(f)); });
  }
};

class RpcTest : public ::testing::Test {
 protected:
  RpcTest() : server_(loop_, key_), transport_(key_), peers_(loop_, transport_, local_, [this](const std::string& h) {
    return h == "server" ? std::optional(server_.address) : std::nullopt;
  }) {}

  Answer call(const std::string& host, std::string_view method, Packed params = pack_map(),
              Loop::Clock::duration patience = seconds(10)) {
    std::optional<Answer> out;
    peers_.call(host, method, std::move(params), [&](Answer answer) { out = std::move(answer); }, in_time(patience));
    while (!out) loop_.run_once(seconds(1));
    return std::move(*out);
  }

  Loop loop_;
  CommunityKey key_ = make_key_pair();
  Server server_;
  RpcServer local_;
  Transport transport_;
  Peers peers_;
};

TEST_F(RpcTest, CarriesParametersAndResults) {
  server_.rpc.serve("add", [](const auto& params, Reply reply) {
    uint64_t a = 0, b = 0;
    if (auto bad = Fields(params).need("a", a, "b", b)) return reply.fail(*bad);
    reply.send_value(a + b);
  }, Retry::kRemembered);
  Answer sum = call("server", "add", pack_map("a", 2u, "b", 40u));
  uint64_t value = 0;
  ASSERT_TRUE(sum) << sum.error().message();
  EXPECT_TRUE(decode(sum->get(), value));
  EXPECT_EQ(value, 42u);
  EXPECT_EQ(call("server", "add").error().code, std::errc::bad_message);
  EXPECT_EQ(call("server", "nothing").error().code, std::errc::function_not_supported);
  EXPECT_EQ(call("elsewhere", "add").error().code, std::errc::no_such_device_or_address);
}

TEST_F(RpcTest, AnAnswerMayComeLater) {
  server_.rpc.serve("later", [this](const auto&, Reply reply) {
    loop_.after(std::chrono::milliseconds(1200), [reply] { reply.done(); });
  }, Retry::kRemembered);
  EXPECT_TRUE(call("server", "later"));
}

TEST_F(RpcTest, ADroppedDutyIsToldToTheCaller) {
  server_.rpc.serve("drop", [](const auto&, Reply) {}, Retry::kRemembered);
  EXPECT_EQ(call("server", "drop").error().code, std::errc::io_error);
}

TEST_F(RpcTest, ARetryIsNotARepetition) {
  int runs = 0;
  server_.rpc.serve("once", [&](const auto&, Reply reply) { reply.send_value(++runs); }, Retry::kRemembered);
  auto dealer = transport_.dealer(Transport::Security::kCurve);
  ASSERT_TRUE(dealer->connect("tcp://" + server_.address));
  auto exchange = [&](uint64_t sequence, uint64_t floor) {
    dealer->send({"GW1", pack_request({5, sequence}, floor, "once", pack_map())});
    std::optional<Frames> frames;
    while (!frames) {
      loop_.run_once(std::chrono::milliseconds(10));
      frames = dealer->receive();
    }
    return (*frames)[1];
  };
  Packed first = exchange(1, 0);
  EXPECT_EQ(exchange(1, 0), first);
  EXPECT_NE(exchange(2, 2), first);
  EXPECT_EQ(runs, 2);
  dealer->send({"GW1", pack_request({5, 1}, 0, "once", pack_map())});  // given up: below the floor
  exchange(3, 3);
  EXPECT_EQ(runs, 3);
}

TEST_F(RpcTest, FindsAServerThatComesBackElsewhere) {
  server_.rpc.serve("ping", [](const auto&, Reply reply) { reply.done(); }, Retry::kRemembered);
  ASSERT_TRUE(call("server", "ping"));
  server_.watcher.reset();
  server_.router.reset();
  loop_.after(std::chrono::milliseconds(700), [this] { server_.open("tcp://127.0.0.1:0"); });
  EXPECT_TRUE(call("server", "ping"));
}

TEST_F(RpcTest, ADeadlineIsKept) {
  std::optional<Reply> kept;
  server_.rpc.serve("never", [&](const auto&, Reply reply) { kept = reply; }, Retry::kRemembered);
  auto begin = Loop::Clock::now();
  EXPECT_EQ(call("server", "never", pack_map(), std::chrono::milliseconds(300)).error().code, std::errc::timed_out);
  EXPECT_LT(Loop::Clock::now() - begin, seconds(5));
}

TEST_F(RpcTest, AnUnknownKeyGetsNothing) {
  int runs = 0;
  server_.rpc.serve("secret", [&](const auto&, Reply reply) { ++runs, reply.done(); }, Retry::kRemembered);
  // Knows the server's public key, but has a key of its own.
  CommunityKey stranger = make_key_pair();
  Transport wrong({key_.public_key, stranger.secret_key});
  Transport other(stranger);
  for (Transport* transport : {&wrong, &other}) {
    Peers peers(loop_, *transport, local_, [](const std::string&) { return std::nullopt; });
    std::optional<Answer> out;
    peers.call_address(server_.address, "secret", pack_map(), [&](Answer a) { out = std::move(a); },
                       in_time(std::chrono::milliseconds(800)));
    while (!out) loop_.run_once(seconds(1));
    EXPECT_EQ(out->error().code, std::errc::timed_out);
  }
  EXPECT_EQ(runs, 0);
  EXPECT_TRUE(call("server", "secret"));
}

TEST_F(RpcTest, GarbageCostsItsSenderTheRequestAndNobodyElse) {
  server_.rpc.serve("ping", [](const auto&, Reply reply) { reply.done(); }, Retry::kRemembered);
  auto dealer = transport_.dealer(Transport::Security::kCurve);
  ASSERT_TRUE(dealer->connect("tcp://" + server_.address));
  std::string deep(5000, '\x91');
  std::string lie = "\xdd\xff\xff\xff\xff";  // an array of four billion
  for (const std::string& body : {std::string(), std::string("\xc1"), deep, lie, std::string("\x94\x00\x01\x02\x03"),
                                  std::string(100'000, '\xff'), pack_request({1, 1}, 0, "ping", lie)}) {
    dealer->send({"GW1", body});
    dealer->send({body});
    dealer->send({body, body, body});
  }
  EXPECT_TRUE(call("server", "ping"));
}

TEST(Loop, RunsTimersPostsAndDescriptorsAndForgetsTheRemoved) {
  Loop loop;
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  UniqueFd from(ends[0]), to(ends[1]);
  std::vector<std::string> heard;
  ASSERT_TRUE(loop.add_fd(from.get(), EPOLLIN, [&](uint32_t) {
    heard.push_back("readable");
    loop.remove_fd(from.get());
    loop.after(std::chrono::milliseconds(1), [&] { loop.stop(); });
  }));
  auto cancelled = loop.after(std::chrono::milliseconds(0), [&] { heard.push_back("cancelled"); });
  loop.cancel(cancelled);
  loop.post([&] {
    heard.push_back("posted");
    ASSERT_EQ(write(to.get(), "x", 1), 1);
  });
  loop.run();
  EXPECT_EQ(heard, (std::vector<std::string>{"posted", "readable"}));
}

}  // namespace
}  // namespace godwit
