// What the node does for clients, by the protocol alone.
#include <gtest/gtest.h>

#include "tests/support/clients.hh"
#include "tests/support/space.hh"

namespace godwit::testing {
namespace {

const Template kAnyA{"a", Formal{Type::kInt}};

class ClientsTest : public ::testing::Test {
 protected:
  ClientsServer server;
  CommunityKey key = server.make_client("one");
  Store space = Store::open(server.segment.segment(), "default").value();

  void SetUp() override { server.start(); }
  std::unique_ptr<RawClient> client() { return std::make_unique<RawClient>(server, key); }
  std::unique_ptr<RawClient> client_that(const clients::Client& may, const std::string& name) {
    return std::make_unique<RawClient>(server, server.make_client(name, may));
  }
  // Also beyond the server's death.
  std::string there(std::string_view wanted) { return rdp(space, wanted); }
  static Packed tuple(const Tuple& one) { return encode(one); }
  static uint64_t number(const Packed& packed) {
    uint64_t number = 0;
    EXPECT_TRUE(decode(unpack(packed)->get(), number));
    return number;
  }
  static Packed is(bool what) { return pack(what); }
  static Packed nil() { return pack(nullptr); }
};

TEST_F(ClientsTest, OneAsksForWhatAnotherPuts) {
  auto a = client(), b = client();
  EXPECT_EQ(a->ask(out_of("default", {Tuple{"a", 1}, Tuple{"a", 2}})).result, is(true));
  EXPECT_EQ(b->ask(request("rd", "default", raw(packed(kAnyA)), 0)).result, tuple({"a", 1}));
  EXPECT_EQ(b->ask(request("count", "default", raw(packed(kAnyA)))).result, pack(2));
  EXPECT_EQ(b->ask(in_of("default", kAnyA)).result, tuple({"a", 1}));
  EXPECT_EQ(b->ask(request("all", "default", raw(packed({})))).result, packed({Tuple{"a", 2}}));
  EXPECT_EQ(b->ask(in_of("default", {"none"})).result, nil());
  EXPECT_EQ(b->ask(request("in", "default", raw(packed(Template{"none"})), 1)).result, nil());
  EXPECT_EQ(b->ask(in_of("nowhere", kAnyA)).code, ENOENT);
}

TEST_F(ClientsTest, AWaitingRequestHoldsNobodyUp) {
  auto a = client();
  uint64_t waits = a->next();
  a->send(a->begin({waiting_in_of("default", kAnyA), request("rd", "default", raw(packed(kAnyA)), nullptr)}));
  EXPECT_EQ(a->ask(request("count", "default", raw(packed(kAnyA)))).result, pack(0));
  out(space, "(\"a\", 5)");
  EXPECT_EQ(a->answer(waits).result, tuple({"a", 5}));
  EXPECT_EQ(a->answer(waits + 1).result, tuple({"a", 5}));
}

TEST_F(ClientsTest, WhatWaitsInAMessageGetsWhatItsNextRequestPuts) {
  auto a = client();
  uint64_t waits = a->next();
  a->send(a->begin({waiting_in_of("default", kAnyA), out_of("default", {Tuple{"a", 1}}), in_of("default", kAnyA)}));
  EXPECT_EQ(a->answer(waits).result, tuple({"a", 1}));
  EXPECT_EQ(a->answer(waits + 2).result, nil());
}

TEST_F(ClientsTest, OfOutsInARowEachIsConfirmedAlone) {
  auto a = client();
  uint64_t waits = a->next();
  Packed out = out_of("default", {Tuple{"a", 1}}), message = a->begin({waiting_in_of("default", Template{"none"}), out, out, out, out, out});
  a->send(message);
  for (uint64_t i = 1; i <= 5; ++i) EXPECT_EQ(a->answer(waits + i).result, is(true));
  EXPECT_EQ(a->ask(request("got", std::vector<uint64_t>{waits + 2, waits + 5})).result, nil());
  a->send(message);
  EXPECT_EQ(a->ask(request("count", "default", raw(packed(kAnyA)))).result, pack(5));
  for (uint64_t i = 1; i <= 5; ++i) EXPECT_EQ(a->told(waits + i), i == 2 || i == 5 ? 1 : 2) << i;
}

TEST_F(ClientsTest, ATupleOfAllTypesComesAsItWas) {
  auto a = client();
  Tuple inner{"in", Tuple{Bytes{std::string("\0\xff", 2)}, Tuple{}}, -1}, all{Nil{}, true, INT64_MIN, 0.5, "é", Bytes{""}, inner};
  EXPECT_EQ(a->ask(out_of("default", {all, Tuple{}})).result, is(true));
  EXPECT_EQ(a->ask(request("all", "default", raw(packed({})))).result, packed({all, Tuple{}}));
}

TEST_F(ClientsTest, RequestsWaitOnWhenTheNodeWasKilled) {
  auto a = client();
  uint64_t waits = a->next();
  a->send(a->begin({waiting_in_of("default", kAnyA), out_of("default", {Tuple{"b", 1}})}));
  a->answer(waits + 1);
  server.kill();
  server.start();
  EXPECT_EQ(a->ask(out_of("default", {Tuple{"a", 1}})).result, is(true));
  EXPECT_EQ(a->answer(waits).result, tuple({"a", 1}));
}

TEST_F(ClientsTest, ATakeThatIsNotConfirmedComesBackToItsPlaceWithTheEndOfTheSession) {
  for (int i = 1; i <= 3; ++i) out(space, Tuple{"a", i});
  auto a = client();
  EXPECT_EQ(a->ask(in_of("default", kAnyA)).result, tuple({"a", 1}));
  a->send(a->begin({waiting_in_of("default", {"never"})}));  // this confirms what was taken, and nothing more
  EXPECT_EQ(a->ask(in_of("default", kAnyA)).result, tuple({"a", 2}));
  EXPECT_EQ(there("(\"a\", ?)"), "(\"a\", 3)");
  a->ask(request("end"));
  while (there("(\"a\", ?)") != "(\"a\", 2)") {
  }
  EXPECT_EQ(count(space, "(\"a\", ?)"), 2u);
}

TEST_F(ClientsTest, WhatOneGotIsItsOwn) {
  out(space, "(\"a\", 1)");
  auto a = client();
  uint64_t waits = a->next();
  a->send(a->begin({waiting_in_of("default", {"never"}), in_of("default", kAnyA)}));
  a->answer(waits + 1);
  EXPECT_EQ(a->ask(request("got", std::vector<uint64_t>{waits + 1})).result, nil());
  a->ask(request("end"));
  auto b = client();
  b->ask(out_of("default", {Tuple{"after"}}));
  EXPECT_EQ(count(space, "(\"a\", ?)"), 0u);
}

TEST_F(ClientsTest, WhatIsCancelledTakesNothing) {
  auto a = client();
  out(space, "(\"a\", 1)");
  out(space, "(\"a\", 2)");
  uint64_t waits = a->next();
  a->send(a->begin({waiting_in_of("default", {"later"}), in_of("default", kAnyA)}));
  EXPECT_EQ(a->answer(waits + 1).result, tuple({"a", 1}));
  EXPECT_EQ(a->ask(request("cancel", waits)).result, is(true));
  EXPECT_EQ(a->answer(waits).code, ECANCELED);
  EXPECT_EQ(a->ask(request("cancel", waits)).result, is(false));
  uint64_t takes = a->next();
  a->send(a->begin({in_of("default", kAnyA), request("cancel", takes)}));
  while (!a->answers().contains(takes + 1)) a->hear(1000);
  EXPECT_EQ(a->answer(takes + 1).result, is(true));
  EXPECT_EQ(there("(\"a\", ?)"), "(\"a\", 2)");
}

TEST_F(ClientsTest, ConditionsHold) {
  auto a = client();
  Packed any = packed(kAnyA), one = tuple({"a", 1}), two = tuple({"a", 2});
  EXPECT_EQ(a->ask(request("swap", "default", raw(any), raw(two))).result, is(false));
  EXPECT_EQ(a->ask(request("unique", "default", raw(any), raw(one))).result, is(true));
  EXPECT_EQ(a->ask(request("unique", "default", raw(any), raw(two))).result, is(false));
  EXPECT_EQ(a->ask(request("swap", "default", raw(any), raw(two))).result, is(true));
  EXPECT_EQ(there("(\"a\", ?)"), "(\"a\", 2)");
}

TEST_F(ClientsTest, LeasesEndAndAreAcknowledged) {
  auto a = client();
  Packed any = packed(kAnyA);
  a->ask(out_of("default", {Tuple{"a", 1}, Tuple{"a", 2}}));
  auto lease = [&] {
    std::vector<msgpack::object> parts;
    Answered answer = a->ask(request("lease", "default", raw(any), 0, 3600'000));
    auto object = unpack(answer.result);
    EXPECT_TRUE(object && decode(object->get(), parts) && parts.size() == 2);
    return number(pack(parts[1]));
  };
  uint64_t first = lease();
  EXPECT_EQ(a->ask(request("extend", first, 7200'000)).result, is(true));
  EXPECT_EQ(a->ask(request("acknowledge", first)).result, is(true));
  EXPECT_EQ(a->ask(request("acknowledge", first)).result, is(false));
  uint64_t second = lease();
  EXPECT_EQ(a->ask(request("release", second, 0)).result, is(true));
  EXPECT_EQ(there("(\"a\", ?)"), "(\"a\", 2)");
  lease();
  a->ask(request("end"));
  while (there("(\"a\", ?)") == "absent") {
  }
}

TEST_F(ClientsTest, WatchesShowWhatComesOnceAndInOrder) {
  auto a = client();
  uint64_t watch = number(a->ask(request("watch", "default", raw(packed(kAnyA)))).result);
  uint64_t waits = a->next();
  a->send(a->begin({request("next", watch, nullptr)}));
  out(space, "(\"a\", 1)");
  Packer seen;
  seen.array(2).add(0).add(Raw{packed({Tuple{"a", 1}})});
  EXPECT_EQ(a->answer(waits).result, seen.bytes());
  EXPECT_EQ(a->ask(request("next", watch, 0)).result, nil());
  waits = a->next();
  a->send(a->begin({request("next", watch, nullptr), request("unwatch", watch)}));
  EXPECT_EQ(a->answer(waits).code, ECANCELED);
  EXPECT_EQ(a->ask(request("next", watch, 0)).code, ENOENT);
}

TEST_F(ClientsTest, TransactionsHappenAtOneMomentOrNot) {
  auto a = client();
  out(space, "(\"a\", 1)");
  uint64_t transaction = number(a->ask(request("begin")).result);
  auto within = [&](const Packed& what) { return a->ask(request("within", transaction, raw(what))); };
  EXPECT_EQ(within(out_of("default", {Tuple{"b", 1}})).result, is(true));
  EXPECT_EQ(within(in_of("default", kAnyA)).result, tuple({"a", 1}));
  EXPECT_EQ(within(request("count", "default", raw(packed(Template{"b", 1})))).result, pack(1));
  EXPECT_EQ(count(space, "(?, ?)"), 0u);
  EXPECT_EQ(a->ask(request("roll_back", transaction)).result, nil());
  EXPECT_EQ(there("(\"a\", ?)"), "(\"a\", 1)");
  within(out_of("default", {Tuple{"b", 2}}));
  within(in_of("default", kAnyA));
  EXPECT_EQ(a->ask(request("commit", transaction)).result, nil());
  EXPECT_EQ(there("(?, ?)"), "(\"b\", 2)");
  EXPECT_EQ(a->ask(request("close", transaction)).result, nil());
  EXPECT_EQ(a->ask(request("commit", transaction)).code, ENOENT);
}

TEST_F(ClientsTest, ACommitThatCannotBeIsAsItWas) {
  auto a = client();
  EXPECT_EQ(a->ask(request("create", "small", raw(pack_map("capacity", 2000, "blocks", false)))).result, nil());
  uint64_t transaction = number(a->ask(request("begin")).result);
  a->ask(request("within", transaction, raw(out_of("small", {Tuple{"x", std::string(1500, 'x')}}))));
  a->ask(out_of("small", {Tuple{"y", std::string(1500, 'y')}}));
  EXPECT_EQ(a->ask(request("commit", transaction)).code, ENOSPC);
  a->ask(in_of("small", {"y", AnyFormal{}}));
  EXPECT_EQ(a->ask(request("commit", transaction)).result, nil());
  EXPECT_EQ(a->ask(in_of("small", {"x", AnyFormal{}})).result, tuple({"x", std::string(1500, 'x')}));
}

TEST_F(ClientsTest, AnOutWaitsForRoom) {
  auto a = client();
  a->ask(request("create", "small", raw(pack_map("capacity", 2000, "blocks", true))));
  Packed large = packed({Tuple{"x", std::string(1500, 'x')}});
  EXPECT_EQ(a->ask(request("out", "small", raw(large), nullptr, 0)).result, is(true));
  EXPECT_EQ(a->ask(request("out", "small", raw(large), nullptr, 0)).result, is(false));
  EXPECT_EQ(a->ask(request("out", "small", raw(large), nullptr, 1)).result, is(false));
  uint64_t waits = a->next();
  a->send(a->begin({request("out", "small", raw(large), nullptr, nullptr)}));
  a->ask(request("in", "small", raw(packed(Template{"x", AnyFormal{}})), 0));
  EXPECT_EQ(a->answer(waits).result, is(true));
}

TEST_F(ClientsTest, OneThatFailsInAMessageFailsAlone) {
  auto a = client();
  a->ask(request("create", "small", raw(pack_map("capacity", 2000, "blocks", false))));
  uint64_t first = a->next();
  a->send(a->begin({out_of("default", {Tuple{"a", 1}}), out_of("small", {Tuple{"x", std::string(1500, 'x')}}), waiting_in_of("default", {"later"}),
                    out_of("small", {Tuple{"x", std::string(1500, 'x')}}), out_of("default", {Tuple{"a", 2}})}));
  EXPECT_EQ(a->answer(first + 4).result, is(true));
  EXPECT_EQ(a->answer(first + 1).result, is(true));
  EXPECT_EQ(a->answer(first + 3).code, ENOSPC);
  EXPECT_EQ(count(space, "(\"a\", ?)"), 2u);
  EXPECT_EQ(a->ask(out_of("default", {Tuple{"later"}})).result, is(true));
  EXPECT_EQ(a->answer(first + 2).result, tuple({"later"}));
}

TEST_F(ClientsTest, SpacesAreMovedMadeAndDropped) {
  auto a = client();
  a->ask(request("create", "other", raw(pack_map())));
  EXPECT_EQ(a->ask(request("create", "other", raw(pack_map()))).code, EEXIST);
  for (const char* own : {".sessions", "net"}) EXPECT_EQ(a->ask(request("create", own, raw(pack_map()))).code, EINVAL);
  a->ask(out_of("default", {Tuple{"a", 1}, Tuple{"a", 2}}));
  EXPECT_EQ(a->ask(request("copy_collect", "default", "other", raw(packed(kAnyA)))).result, pack(2));
  EXPECT_EQ(a->ask(request("collect", "default", "other", raw(packed(Template{"a", 1})))).result, pack(1));
  EXPECT_EQ(a->ask(request("count", "other", raw(packed(kAnyA)))).result, pack(3));
  EXPECT_EQ(a->ask(request("drop", "other")).result, nil());
  EXPECT_EQ(a->ask(request("count", "other", raw(packed(kAnyA)))).code, ENOENT);
  a->ask(request("create", "other", raw(pack_map())));
  EXPECT_EQ(a->ask(request("count", "other", raw(packed(kAnyA)))).result, pack(0));
}

TEST_F(ClientsTest, MortalTuplesGo) {
  auto a = client();
  EXPECT_EQ(a->ask(request("out", "default", raw(packed({Tuple{"a", 1}})), 0, 0)).result, is(true));
  EXPECT_EQ(there("(\"a\", ?)"), "absent");
}

// ---- rights and limits

TEST_F(ClientsTest, AKeyHasTheRightsOfItsFileAndNoOthers) {
  clients::Client may;
  may.rights["default"] = clients::kRead;
  may.rights["bag"] = clients::kPut;
  auto a = client_that(may, "reader");
  ASSERT_TRUE(Store::create(server.segment.segment(), "bag", {}).has_value());
  Packed any = packed(kAnyA);
  EXPECT_EQ(a->ask(request("count", "default", raw(any))).code, 0);
  EXPECT_EQ(a->ask(out_of("bag", {Tuple{"a", 1}})).code, 0);
  for (const Packed& no : {out_of("default", {Tuple{"a", 1}}), in_of("default", kAnyA), request("count", "bag", raw(any)), in_of("bag", kAnyA),
                           request("swap", "bag", raw(any), raw(tuple({"a", 1}))), request("lease", "default", raw(any), 0, 1000),
                           request("collect", "default", "bag", raw(any)), request("watch", "bag", raw(any)), request("all", "bag", raw(any)),
                           request("create", "mine", raw(pack_map())), request("drop", "bag"), request("count", ".sessions", raw(any)),
                           request("count", "elsewhere", raw(any))})
    EXPECT_EQ(a->ask(no).code, EACCES);
  EXPECT_EQ(a->ask(request("copy_collect", "default", "bag", raw(any))).code, 0);
  EXPECT_EQ(count(space, "(\"a\", ?)"), 0u);
}

TEST_F(ClientsTest, WaitersAreLimited) {
  clients::Client may = ClientsServer::everything();
  may.limits.waiters = 2;
  auto a = client_that(may, "few");
  uint64_t first = a->next();
  for (int i = 0; i < 3; ++i) a->send(a->begin({waiting_in_of("default", kAnyA)}));
  EXPECT_EQ(a->answer(first + 2).code, EDQUOT);
  EXPECT_EQ(a->ask(request("watch", "default", raw(packed(kAnyA)))).code, EDQUOT);
  EXPECT_EQ(a->ask(request("cancel", first)).result, is(true));
  EXPECT_EQ(a->ask(request("begin")).code, 0);
}

TEST_F(ClientsTest, MemoryIsLimited) {
  clients::Client may = ClientsServer::everything();
  may.limits.memory = 100'000;
  auto a = client_that(may, "small");
  Packed large = out_of("default", {Tuple{"a", 1, std::string(60'000, 'x')}});
  a->ask(large);
  a->ask(large);
  uint64_t first = a->next();
  Template wanted{"a", 1, AnyFormal{}};
  a->send(a->begin({waiting_in_of("default", {"never"})}));  // so that nothing is confirmed
  EXPECT_EQ(a->ask(in_of("default", wanted)).code, 0);
  EXPECT_EQ(a->ask(in_of("default", wanted)).code, ENOBUFS);
  EXPECT_EQ(a->ask(request("got", std::vector<uint64_t>{first + 1})).code, 0);
  EXPECT_EQ(a->ask(in_of("default", wanted)).code, 0);
}

TEST_F(ClientsTest, BeyondItsRateAKeyWaits) {
  clients::Client may = ClientsServer::everything();
  may.limits.rate = 200;
  auto slow = client_that(may, "slow"), other = client();
  for (int i = 0; i < 40; ++i) slow->send(slow->begin({out_of("default", {Tuple{"a", i}})}));
  EXPECT_EQ(other->ask(out_of("default", {Tuple{"b", 1}})).result, is(true));
  EXPECT_EQ(slow->answer(40).result, is(true));
  for (int i = 0; i < 40; ++i) EXPECT_EQ(inp(space, "(\"a\", ?)"), to_text(Tuple{"a", i}));
}

// ---- sessions

TEST_F(ClientsTest, OneOfAnotherKeyIsNobodys) {
  auto a = client();
  a->ask(out_of("default", {Tuple{"a", 1}}));
  clients::Client none;
  auto b = client_that(none, "other");
  b->send(a->message(2, {in_of("default", kAnyA)}));
  while (!b->over()) b->hear(1000);
  EXPECT_EQ(b->over(), ESTALE);
  EXPECT_EQ(a->ask(in_of("default", kAnyA)).result, tuple({"a", 1}));
}

TEST_F(ClientsTest, ASessionThatIsOverBeginsNotAnewAlsoAfterAKill) {
  auto a = client();
  Packed late = a->begin({out_of("default", {Tuple{"a", 1}})});
  a->send(late);
  a->answer(1);
  a->ask(request("end"));
  for (int i = 0; i < 2; ++i) {
    auto b = client();
    b->send(late);
    while (!b->over()) b->hear(1000);
    EXPECT_EQ(b->over(), ESTALE);
    server.kill();
    server.start();
  }
  EXPECT_EQ(count(space, "(\"a\", ?)"), 1u);
}

TEST_F(ClientsTest, ARevokedKeyIsOutAtOnce) {
  auto a = client();
  out(space, "(\"a\", 1)");
  a->ask(in_of("default", kAnyA));
  unlink(clients::file_of(server.home(), "one").c_str());
  while (!a->over()) a->hear(1000);
  EXPECT_EQ(a->over(), EACCES);
  while (there("(\"a\", ?)") == "absent") {
  }
}

TEST_F(ClientsTest, GarbageEndsItsSessionAndNoOther) {
  auto a = client(), b = client();
  out(space, "(\"a\", 1)");
  a->ask(in_of("default", kAnyA));
  b->ask(out_of("default", {Tuple{"b", 1}}));
  Packer deep;
  for (int i = 0; i < 100; ++i) deep.array(1);
  Packer nested;
  nested.array(1).array(5000);
  for (int i = 0; i < 5000; ++i) nested.add(nullptr);
  std::string many_nested = nested.take();
  a->send(a->message(a->next(), {request("out", "default", raw(many_nested), nullptr, 0)}));
  while (!a->over()) a->hear(1000);
  EXPECT_EQ(a->over(), EBADMSG);
  while (there("(\"a\", ?)") == "absent") {
  }
  for (const Packed& garbage : {Packed(), Packed("\xc1"), deep.take(), Packed(100'000, '\xff'), Packed("\xdd\xff\xff\xff\xff")}) {
    auto c = client();
    c->send(garbage);
    while (!c->over()) c->hear(1000);
    EXPECT_EQ(c->over(), EBADMSG);
  }
  auto c = client();
  c->send(b->message(1, {}), "GC9");
  while (!c->over()) c->hear(1000);
  EXPECT_EQ(b->ask(in_of("default", {"b", 1})).result, tuple({"b", 1}));
}

}  // namespace
}  // namespace godwit::testing
