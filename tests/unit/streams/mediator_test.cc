// Mediators over a segment of the test's own: programs are played by threads, killed mediators by processes.
#include "tuplespace/streams/mediator.hh"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <thread>

#include "tests/support/program.hh"
#include "tuplespace/text.hh"

namespace godwit {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Pod;
using testing::ProgramEnd;
using testing::ProgramListener;
using testing::TestSegment;

constexpr uint64_t kClient = 7, kServer = 8;
constexpr uint16_t kPort = 8080;

Deadline soon() { return std::chrono::steady_clock::now() + seconds(20); }
Deadline now() { return std::chrono::steady_clock::now(); }

class MediatorTest : public ::testing::Test {
 protected:
  std::string in(const char* wanted, Deadline deadline = soon()) { return in(mediator_, wanted, deadline); }
  static std::string in(StreamMediator& mediator, const char* wanted, Deadline deadline = soon()) {
    auto one = parse_template(wanted);
    GODWIT_CHECK(one);
    auto taken = mediator.in(TemplateViews(*one), deadline);
    return taken ? to_text(*taken) : taken.error().message();
  }
  bool has(const char* wanted) {
    auto one = parse_template(wanted);
    GODWIT_CHECK(one);
    auto taken = mediator_.inp(TemplateViews(*one));
    return taken.has_value();
  }
  std::string out(Tuple tuple, Deadline deadline = soon()) { return out(mediator_, tuple, deadline); }
  static std::string out(StreamMediator& mediator, const Tuple& tuple, Deadline deadline = soon()) {
    auto put = mediator.out(views_of(tuple), deadline);
    return put ? "done" : put.error().message();
  }
  static Tuple to_client(const std::string& connection, int64_t offset, std::string data) {
    return Tuple{"stream", connection, "s>c", offset, Bytes{std::move(data)}};
  }
  static Tuple to_server(const std::string& connection, int64_t offset, std::string data) {
    return Tuple{"stream", connection, "c>s", offset, Bytes{std::move(data)}};
  }
  void listen() {
    auto port = mediator_.listen("0.0.0.0", kPort);
    ASSERT_TRUE(port) << port.error().message();
    ASSERT_EQ(*port, kPort);
  }
  uint64_t used() { return test_.segment().header().used_chunks; }

  TestSegment test_;
  shared::Thread self_ = test_.join();
  Pod client_{test_, kClient};
  StreamMediator mediator_{self_};
};

// --- a mediator as a server ----------------------------------------------------------------------------------

TEST_F(MediatorTest, AServerIsNothingButInAndOut) {
  listen();
  std::string name, reply, rest;
  std::thread program([&] {
    ProgramEnd end(client_, kPort);
    name = end.name();
    end.write("question");
    reply = end.read_all(6);
    end.finish();
    rest = end.read();
    end.close();
  });
  std::string request = in(R"(("connect", "127.0.0.1", 8080, ?, ?))");
  std::string connection = parse_tuple(request)->fields()[3].get<std::string>()->c_str();
  EXPECT_EQ(in(R"(("stream", ?, "c>s", ?, b"quest"*))"), R"(("stream", ")" + connection + R"(", "c>s", 0, b"question"))");
  EXPECT_EQ(out(to_client(connection, 3, "answer")), "the stream s>c of " + connection + " ends at 0; that is the OFFSET to give");
  EXPECT_EQ(out(to_client(connection, 0, "answer")), "done");
  EXPECT_EQ(in(R"(("stream", ?, ?, ?, nil))"), R"(("stream", ")" + connection + R"(", "c>s", 8, nil))");
  EXPECT_EQ(out(Tuple{"stream", connection, "s>c", 6, Nil{}}), "done");
  program.join();
  EXPECT_EQ(name, connection);
  EXPECT_EQ(reply, "answer");
  EXPECT_EQ(rest, "");
  EXPECT_FALSE(has("(?, ?, ?, ?, ?)")) << "an end is taken once";
}

TEST_F(MediatorTest, NobodyIsAcceptedButByIn) {
  listen();
  ProgramEnd a(client_, kPort), b(client_, kPort);
  a.write("from a");
  EXPECT_FALSE(has(R"(("stream", ?, ?, ?, ?))"));
  std::string second = R"(("connect", ?, ?, ")" + b.name() + R"(", ?))";
  EXPECT_TRUE(has(second.c_str()));
  EXPECT_EQ(b.socket()->accepted.load(), 1u);
  EXPECT_EQ(a.socket()->accepted.load(), 0u);
  EXPECT_FALSE(has(second.c_str()));
  EXPECT_TRUE(has(R"(("connect", ?, ?, ?, ?))"));
  EXPECT_TRUE(has(R"(("stream", ?, ?, ?, b"from a"))"));
  a.close(), b.close();
}

TEST_F(MediatorTest, ABlockedInWakesForWhateverComes) {
  listen();
  std::unique_ptr<ProgramEnd> end;
  auto while_waiting = [&](const char* wanted, auto step) {
    test_.segment().header().net_armed.store(0);
    std::string got;
    std::thread program([&] {
      while (!test_.segment().header().net_armed.load()) std::this_thread::yield();
      step();
    });
    got = in(wanted);
    program.join();
    EXPECT_NE(got.find("("), std::string::npos) << got;
  };
  while_waiting(R"(("connect", ?, ?, ?, ?))", [&] { end = std::make_unique<ProgramEnd>(client_, kPort); });
  while_waiting(R"(("stream", ?, ?, 0, ?bytes))", [&] { end->write("x"); });
  while_waiting(R"(("stream", ?, ?, 1, nil))", [&] { end->finish(); });
  end->close();
}

TEST_F(MediatorTest, AKilledClientIsAnEnd) {
  listen();
  pid_t child = fork();
  if (child == 0) {
    Pod pod(test_, 9);
    ProgramEnd end(pod, kPort);
    end.write("last words");
    end.read();
    _exit(0);
  }
  in(R"(("connect", ?, ?, ?, ?))");
  StreamSource source(self_);
  EXPECT_TRUE(rd(source, TemplateViews(Template{"stream", AnyFormal{}, AnyFormal{}, 0, AnyFormal{}}), soon()));
  kill(child, SIGKILL);
  EXPECT_NE(in(R"(("stream", ?, ?, 0, b"last words"))").find("last words"), std::string::npos);
  EXPECT_NE(in(R"(("stream", ?, ?, 10, nil))").find("nil"), std::string::npos);
  waitpid(child, nullptr, 0);
}

TEST_F(MediatorTest, WaitsEndAtTheirDeadlineOrWhenTold) {
  listen();
  EXPECT_EQ(in("(?, ?, ?, ?, ?)", now() + milliseconds(20)), "no such tuple came in time; inp looks without waiting");
  std::stop_source stop;
  std::thread teller([&] {
    while (!test_.segment().header().net_armed.load()) std::this_thread::yield();
    stop.request_stop();
  });
  test_.segment().header().net_armed.store(0);
  Template any{"never"};
  auto taken = mediator_.in(TemplateViews(any), kForever, stop.get_token());
  teller.join();
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, std::errc::operation_canceled);
}

TEST_F(MediatorTest, OutWaitsForRoomForAllOfIt) {
  listen();
  ProgramEnd end(client_, kPort);
  in(R"(("connect", ?, ?, ?, ?))");
  EXPECT_EQ(out(to_client(end.name(), 0, std::string(100000, 'a'))), "done");
  EXPECT_EQ(out(to_client(end.name(), 100000, std::string(100000, 'b')), now() + milliseconds(20)),
            "the stream s>c of " + end.name() + " had no room in time; nothing was put");
  EXPECT_EQ(end.socket()->rings[1].tail.load(), 100000u);
  std::string got;
  std::thread program([&] {
    while (!end.socket()->ends[1].futex_sleepers.load()) std::this_thread::yield();
    got = end.read_all(200000);
  });
  EXPECT_EQ(out(to_client(end.name(), 100000, std::string(100000, 'b'))), "done");
  program.join();
  EXPECT_TRUE(got == std::string(100000, 'a') + std::string(100000, 'b'));
  EXPECT_EQ(end.socket()->ends[1].futex_sleepers.load(), 0u);
  EXPECT_NE(out(to_client(end.name(), 200000, std::string(shared::kRing + 1, 'c'))), "done");
  end.close();
  EXPECT_EQ(out(to_client(end.name(), 200000, "d")), "the stream s>c of " + end.name() + " has ended; nothing can be put there");
}

TEST_F(MediatorTest, InWakesAWriterThatWaitsForRoom) {
  listen();
  std::thread program([&] {
    ProgramEnd end(client_, kPort);
    end.write(std::string(3 * shared::kRing, 'x'));
    end.close();
  });
  in(R"(("connect", ?, ?, ?, ?))");
  uint64_t got = 0;
  for (std::string last; last.find("nil") == last.npos; got += last.size()) {
    last = in(R"(("stream", ?, ?, ?, ?))");
    if (size_t data = last.find("b\""); data != last.npos) last = last.substr(data + 2, last.size() - data - 4);
    else break;
  }
  program.join();
  EXPECT_EQ(got, 3 * shared::kRing);
}

TEST_F(MediatorTest, LeavesNothingBehind) {
  uint64_t before = used();
  {
    StreamMediator mediator(self_);
    ASSERT_TRUE(mediator.listen("127.0.0.1", 0));
    auto port = mediator.listen("127.0.0.1", 0);
    ASSERT_TRUE(port);
    auto taken = mediator.listen("0.0.0.0", *port);
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code, std::errc::address_in_use);
    ProgramEnd accepted(client_, *port);
    in(mediator, R"(("connect", ?, ?, ?, ?))");
    accepted.close();
    ProgramEnd waiting(client_, *port);
    waiting.write("x");
    waiting.close();
  }
  EXPECT_EQ(used(), before);
  EXPECT_EQ(ProgramEnd(client_, kPort).socket(), nullptr);
}

TEST_F(MediatorTest, ItsEndIsItsClientsEnd) {
  auto mediator = std::make_unique<StreamMediator>(self_);
  ASSERT_TRUE(mediator->listen("127.0.0.1", kPort));
  ProgramEnd accepted(client_, kPort), unread(client_, kPort);
  in(*mediator, R"(("connect", ?, ?, ?, ?))");
  in(*mediator, R"(("connect", ?, ?, ?, ?))");
  ProgramEnd waiting(client_, kPort);
  unread.write("unread");
  mediator.reset();
  EXPECT_EQ(accepted.read(), "");
  EXPECT_FALSE(accepted.is_reset());
  EXPECT_TRUE(unread.is_reset());
  EXPECT_TRUE(waiting.is_reset());
  accepted.close(), unread.close(), waiting.close();
}

// --- between two programs ----------------------------------------------------------------------------------------

class BetweenTest : public MediatorTest {
 protected:
  Pod server_{test_, kServer};
  ProgramListener listener_{server_, kPort};
  ProgramEnd asks_{client_, kPort};
  ProgramEnd answers_{server_, listener_};
  std::string name_ = asks_.name();
};

TEST_F(BetweenTest, WhatIsTakenIsNotReadAndWhatIsPutIs) {
  asks_.write("secret");
  EXPECT_EQ(in(R"(("stream", ?, "c>s", ?, ?))"), R"(("stream", ")" + name_ + R"(", "c>s", 0, b"secret"))");
  EXPECT_EQ(out(to_server(name_, 0, "public")), "the stream c>s of " + name_ + " ends at 6; that is the OFFSET to give");
  EXPECT_EQ(out(to_server(name_, 6, "public")), "done");
  EXPECT_EQ(answers_.read(), "public");
  asks_.write(" and more");
  EXPECT_EQ(answers_.read(), " and more");
}

TEST_F(BetweenTest, ASleepingReaderIsWokenByOut) {
  for (int64_t round = 0; round < 20; ++round) {
    std::thread server([&] { EXPECT_EQ(answers_.read(), "x"); });
    while (!answers_.sleeps()) std::this_thread::yield();
    EXPECT_EQ(out(to_server(name_, round, "x")), "done");
    server.join();
    std::thread client([&] { EXPECT_EQ(asks_.read(), "y"); });
    while (!asks_.sleeps()) std::this_thread::yield();
    EXPECT_EQ(out(to_client(name_, round, "y")), "done");
    client.join();
  }
}

TEST_F(BetweenTest, AWriterThatWaitsForRoomIsWokenByIn) {
  std::thread client([&] { asks_.write(std::string(2 * shared::kRing, 'x')); });
  while (!asks_.sleeps()) std::this_thread::yield();
  in(R"(("stream", ?, "c>s", 0, ?))");
  client.join();
  EXPECT_EQ(answers_.read_all(shared::kRing).size(), shared::kRing);
}

TEST_F(BetweenTest, TheirEndsAreNotItsToGive) {
  EXPECT_EQ(out(Tuple{"stream", name_, "c>s", 0, Nil{}}), "only who writes the stream c>s of " + name_ + " can end it; DATA may be bytes");
  asks_.write("x");
  asks_.finish();
  EXPECT_FALSE(has(R"(("stream", ?, ?, ?, nil))"));
  EXPECT_EQ(out(to_server(name_, 1, "y")), "the stream c>s of " + name_ + " has ended; nothing can be put there");
  EXPECT_FALSE(has(R"(("connect", ?, ?, ?, ?))"));
}

TEST_F(BetweenTest, WhatIsNotOfTwoProgramsHereIsRefused) {
  asks_.write("x");
  auto refused = [&] { return !has(R"(("stream", ?, ?, ?, ?))") && out(to_client(name_, 0, "y")).find("programs of this host") != std::string::npos; };
  shared::End& end = asks_.socket()->ends[0];
  for (uint64_t pod : {own_bridge(test_.segment()), uint64_t{99}}) {  // a client outside, or of another host
    end.pod = pod;
    EXPECT_TRUE(refused());
  }
  end.pod = kClient;
  end.epoch = 2;
  EXPECT_TRUE(refused()) << "rebuilt by a move";
  end.epoch = 0;
  shared::Member& member = test_.segment().header().members[shared::find_pod(test_.segment(), kClient)];
  member.moving.store(1);
  EXPECT_TRUE(refused()) << "on its way";
  member.moving.store(0);
  EXPECT_TRUE(has(R"(("stream", ?, ?, ?, ?))"));
}

TEST_F(BetweenTest, WrongTuplesAreRefused) {
  for (const Tuple& wrong : {Tuple{"stream"}, Tuple{"connect", "127.0.0.1", 80, "x", "y"}, Tuple{"stream", "x", "c>s", 0, Bytes{"y"}},
                             Tuple{"stream", "000000-01", "c>s", 0, Bytes{"y"}}, Tuple{"stream", name_, "c<s", 0, Bytes{"y"}},
                             Tuple{"stream", name_, "c>s", 0, "y"}, Tuple{"stream", name_, "c>s", 0, Bytes{""}},
                             Tuple{"stream", "ffff-ffff", "c>s", 0, Bytes{"y"}}}) {
    auto put = mediator_.out(views_of(wrong));
    ASSERT_FALSE(put) << to_text(wrong);
    EXPECT_EQ(put.error().code, std::errc::invalid_argument);
  }
}

// --- killed mediators ------------------------------------------------------------------------------------------

TEST_F(MediatorTest, AKilledServerIsToItsClientsWhatLinuxMakesIt) {
  uint64_t before = used();
  pid_t child = fork();
  if (child == 0) {
    shared::Thread self = test_.join();
    StreamMediator mediator(self);
    if (!mediator.listen("127.0.0.1", kPort)) _exit(1);
    for (int i = 0; i < 2; ++i) in(mediator, R"(("connect", ?, ?, ?, ?))");
    in(mediator, R"(("never"))", kForever);
  }
  shared::Listener listener;
  while (!shared::find_listener(test_.segment(), testing::loopback(kPort), &listener)) std::this_thread::yield();
  {
    ProgramEnd read(client_, kPort), unread(client_, kPort);
    for (ProgramEnd* end : {&read, &unread})
      while (!end->socket()->accepted.load()) std::this_thread::yield();
    ProgramEnd waiting(client_, kPort);
    unread.write("nobody takes this");
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    EXPECT_EQ(read.read(), "");
    EXPECT_FALSE(read.is_reset());
    EXPECT_EQ(unread.read(), "");
    EXPECT_TRUE(unread.is_reset());
    EXPECT_EQ(waiting.read(), "");
    EXPECT_EQ(ProgramEnd(client_, kPort).socket(), nullptr) << "refused";
    EXPECT_TRUE(StreamMediator(self_).listen("127.0.0.1", kPort)) << "its port is free at once";
    ring_for_dead_mediators(self_);
    shared::reap(self_);
    remove_dead_mediators(self_);
    read.close(), unread.close(), waiting.close();
  }
  EXPECT_EQ(used(), before);
  listen();
  remove_dead_mediators(self_);
  EXPECT_NE(ProgramEnd(client_, kPort).socket(), nullptr) << "the living are left alone";
}

}  // namespace
}  // namespace godwit
