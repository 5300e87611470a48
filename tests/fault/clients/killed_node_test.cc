// The node is killed between what a request does, the record of it, and its answer; started again, it does each request once.
#include <gtest/gtest.h>

#include "tests/support/clients.hh"
#include "tests/support/space.hh"

namespace godwit::testing {
namespace {

struct Case {
  const char* point;
  bool is_done;  // by then
};
void PrintTo(const Case& one, std::ostream* os) { *os << one.point; }

class KilledNode : public ::testing::TestWithParam<Case> {
 protected:
  ClientsServer server;
  CommunityKey key = server.make_client("one");
  Store space = Store::open(server.segment.segment(), "default").value();

  // The node is killed at the point by this request, which the client sends again to the next.
  Answered ask_through(RawClient& client, const Packed& request) {
    server.kill();
    server.start(GetParam().point);
    uint64_t number = client.next();
    client.send(client.begin({request}));
    while (!server.has_ended()) client.hear(20) || (client.resend(), true);
    server.start();
    return client.answer(number);
  }
};

class KilledInATransaction : public KilledNode {};

TEST_P(KilledInATransaction, PutsOnce) {
  server.start();
  RawClient a(server, key);
  EXPECT_EQ(ask_through(a, out_of("default", {Tuple{"a", 1}, Tuple{"a", 2}})).result, pack(true));
  EXPECT_EQ(count(space, "(\"a\", ?)"), 2u);
}

TEST_P(KilledInATransaction, TakesOnce) {
  for (int i = 1; i <= 2; ++i) out(space, Tuple{"a", i});
  server.start();
  RawClient a(server, key);
  EXPECT_EQ(ask_through(a, in_of("default", {"a", AnyFormal{}})).result, encode(Tuple{"a", 1}));
  EXPECT_EQ(rdp(space, "(\"a\", ?)"), "(\"a\", 2)");
  EXPECT_EQ(a.ask(in_of("default", {"a", AnyFormal{}})).result, encode(Tuple{"a", 2}));
}

TEST_P(KilledInATransaction, TakesOnceWhatItWaitedFor) {
  server.start();
  RawClient a(server, key);
  a.send(a.begin({waiting_in_of("default", {"a", AnyFormal{}})}));
  EXPECT_EQ(ask_through(a, out_of("default", {Tuple{"a", 1}})).result, pack(true));
  EXPECT_EQ(a.answer(1).result, encode(Tuple{"a", 1}));
  EXPECT_EQ(count(space, "(?, ?)"), 0u);
}

TEST_P(KilledInATransaction, PutsOnceOnACondition) {
  server.start();
  RawClient a(server, key);
  Packed none = packed(Template{"a", AnyFormal{}});
  EXPECT_EQ(ask_through(a, request("unique", "default", raw(none), raw(encode(Tuple{"a", 1})))).result, pack(true));
  EXPECT_EQ(ask_through(a, request("swap", "default", raw(none), raw(encode(Tuple{"a", 2})))).result, pack(true));
  EXPECT_EQ(inp(space, "(?, ?)"), "(\"a\", 2)");
  EXPECT_EQ(count(space, "(?, ?)"), 0u);
}

TEST_P(KilledInATransaction, CancelsOnce) {
  out(space, "(\"a\", 1)");
  server.start();
  RawClient a(server, key);
  a.send(a.begin({waiting_in_of("default", {"never"}), in_of("default", {"a", AnyFormal{}})}));
  a.answer(2);
  EXPECT_EQ(ask_through(a, request("cancel", 2)).result, pack(true));
  EXPECT_EQ(count(space, "(\"a\", ?)"), 1u);
}

TEST_P(KilledInATransaction, ConfirmsOnce) {
  out(space, "(\"a\", 1)");
  server.start();
  {
    RawClient a(server, key);
    a.send(a.begin({waiting_in_of("default", {"never"}), in_of("default", {"a", AnyFormal{}})}));
    a.answer(2);
    EXPECT_EQ(ask_through(a, request("got", std::vector<uint64_t>{2})).result, pack(nullptr));
    a.ask(request("end"));
  }
  RawClient b(server, key);
  b.ask(out_of("default", {Tuple{"after", 1}}));
  EXPECT_EQ(count(space, "(\"a\", ?)"), 0u);
}

INSTANTIATE_TEST_SUITE_P(At, KilledInATransaction, ::testing::Values(Case{"clients.before_commit", false}, Case{"clients.after_commit", true}));

// With the node a transaction ends; that it has happened is known.
TEST_P(KilledNode, CommitsOnceOrNot) {
  server.start();
  RawClient a(server, key);
  server.kill();
  server.start(std::string(GetParam().point) + ":3");
  uint64_t transaction = 0;
  ASSERT_TRUE(decode(unpack(a.ask(request("begin")).result)->get(), transaction));
  a.ask(request("within", transaction, raw(out_of("default", {Tuple{"a", 1}}))));
  uint64_t number = a.next();
  a.send(a.begin({request("commit", transaction)}));
  while (!server.has_ended()) a.hear(20) || (a.resend(), true);
  server.start();
  EXPECT_EQ(a.answer(number).code, GetParam().is_done ? 0 : ENOENT);
  EXPECT_EQ(count(space, "(?, ?)"), GetParam().is_done ? 1u : 0u);
}

INSTANTIATE_TEST_SUITE_P(At, KilledNode, ::testing::Values(Case{"clients.before_commit", false}, Case{"clients.after_commit", true}));

class KilledInDoubt : public KilledNode {};

TEST_P(KilledInDoubt, SaysThatNobodyKnows) {
  out(space, "(\"a\", 1)");
  ASSERT_TRUE(Store::create(server.segment.segment(), "other", {}).has_value());
  server.start();
  RawClient a(server, key);
  Packed any = packed(Template{"a", AnyFormal{}});
  EXPECT_EQ(ask_through(a, request("collect", "default", "other", raw(any))).code, EOWNERDEAD);
  EXPECT_EQ(count(space, "(?, ?)"), GetParam().is_done ? 0u : 1u);
  EXPECT_EQ(ask_through(a, request("create", "third", raw(pack_map()))).code, EOWNERDEAD);
  EXPECT_EQ(a.ask(request("count", "third", raw(any))).code, GetParam().is_done ? 0 : ENOENT);
}

INSTANTIATE_TEST_SUITE_P(At, KilledInDoubt, ::testing::Values(Case{"clients.before_doubtful", false}, Case{"clients.after_doubtful", true}));

TEST(KilledNodeAlone, PutsBackWhatASessionHadTakenAlsoInTheMiddleOfIt) {
  ClientsServer server;
  CommunityKey key = server.make_client("one");
  Store space = Store::open(server.segment.segment(), "default").value();
  for (int i = 1; i <= 3; ++i) out(space, Tuple{"a", i});
  server.start("clients.session_ends");
  RawClient a(server, key);
  a.send(a.begin({waiting_in_of("default", {"never"}), in_of("default", {"a", AnyFormal{}}), in_of("default", {"a", AnyFormal{}})}));
  a.answer(3);
  a.send(a.begin({request("end")}));
  while (!server.has_ended()) a.hear(20);
  EXPECT_EQ(count(space, "(?, ?)"), 2u);
  server.start();
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(inp(space, "(\"a\", ?)"), to_text(Tuple{"a", i}));
}

}  // namespace
}  // namespace godwit::testing
