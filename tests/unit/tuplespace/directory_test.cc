// The directory's rules: sessions run a command once, epochs fence, names and addresses are unique.
#include "tuplespace/node/directory.hh"

#include <gtest/gtest.h>

namespace godwit {
namespace {

class DirectoryTest : public ::testing::Test {
 protected:
  Outcome run(CommandId id, const DirectoryCommand& command) {
    auto applied = directory_.apply(directory_.applied() + 1, pack_batch({pack_command(id, command)}));
    EXPECT_EQ(applied.size(), 1u);
    return applied.at(0).outcome;
  }
  Outcome run(const DirectoryCommand& command) { return run({100, next_++, 0}, command); }

  static HostEntry host(const std::string& name, uint64_t incarnation, uint32_t number = 7, uint64_t home = 1) {
    return {name, "10.0.0.1:1", home, number, incarnation, true};
  }
  void SetUp() override { ASSERT_EQ(run({100, 1, 0}, host_joined(host("a", 100))).code, 0); }
  PodEntry created(const std::string& name) {
    Outcome outcome = run(pod_created(name, "", "a", ""));
    EXPECT_EQ(outcome.code, 0) << outcome.what;
    return *directory_.pod_named(name);
  }

  Directory directory_;
  uint64_t next_ = 2;
};

TEST_F(DirectoryTest, ACommandRunsOnceHoweverOftenItIsSent) {
  Outcome first = run({100, 5, 0}, pod_created("web", "", "a", ""));
  Outcome again = run({100, 5, 0}, pod_created("web", "", "a", ""));
  EXPECT_EQ(first.code, 0);
  EXPECT_EQ(again.code, 0);
  EXPECT_EQ(first.result, again.result);
  EXPECT_EQ(directory_.pods().size(), 1u);
}

TEST_F(DirectoryTest, WhatTheFloorHasPassedCannotHappenAnyMore) {
  EXPECT_EQ(run({100, 9, 9}, nothing()).code, 0);
  EXPECT_EQ(run({100, 5, 0}, pod_created("late", "", "a", "")).code, ESTALE);
  EXPECT_TRUE(directory_.pods().empty());
}

TEST_F(DirectoryTest, AJoinEndsTheFormerLifesSession) {
  PodEntry pod = created("web");
  EXPECT_EQ(run({200, 1, 0}, host_joined(host("a", 200))).code, 0);
  EXPECT_EQ(run({100, 50, 0}, pod_moved(pod.id, 1, "a")).code, ESTALE);
  EXPECT_EQ(directory_.pod(pod.id)->epoch, 1u);
  EXPECT_EQ(run({200, 2, 0}, pod_moved(pod.id, 1, "a")).code, 0);
}

TEST_F(DirectoryTest, AMoveNamesTheEpochThatItKnows) {
  PodEntry pod = created("web");
  ASSERT_EQ(run({300, 1, 0}, host_joined(host("b", 300, 8, 2))).code, 0);
  EXPECT_EQ(run(pod_moved(pod.id, 1, "b")).code, 0);
  EXPECT_EQ(directory_.pod(pod.id)->host, "b");
  EXPECT_EQ(directory_.pod(pod.id)->epoch, 2u);
  EXPECT_EQ(run(pod_moved(pod.id, 1, "a")).code, ECANCELED);
  EXPECT_EQ(run(pod_ended(pod.id, 1)).code, ECANCELED);
  EXPECT_EQ(run(pod_moved(pod.id, 2, "nowhere")).code, ENXIO);
  EXPECT_EQ(run(pod_moved(999, 1, "a")).code, ESRCH);
  EXPECT_EQ(directory_.pod(pod.id)->epoch, 2u);
}

TEST_F(DirectoryTest, NamesAreUniqueAndMadeFromAHintIfNoneIsGiven) {
  created("redis");
  EXPECT_EQ(run(pod_created("redis", "", "a", "")).code, EEXIST);
  EXPECT_EQ(run(pod_created("", "redis", "a", "")).code, 0);
  EXPECT_TRUE(directory_.pod_named("redis-2"));
  EXPECT_EQ(run(pod_created("other", "", "a", "redis")).code, EEXIST);
  EXPECT_EQ(run(pod_created("no/slash", "", "a", "")).code, EINVAL);
  EXPECT_EQ(run(pod_created("x", "", "nowhere", "")).code, ENXIO);
}

TEST_F(DirectoryTest, EveryPodHasAVirtualAddressOfItsOwn) {
  auto one = created("one").virtual_address, two = created("two").virtual_address;
  EXPECT_NE(one, two);
  EXPECT_EQ(one >> 17, (198u << 24 | 18u << 16) >> 17);
  ASSERT_EQ(run(pod_ended(directory_.pod_named("one")->id, 1)).code, 0);
  EXPECT_NE(created("three").virtual_address, one);  // not given again soon
}

TEST_F(DirectoryTest, AnEndTakesListenersAndPublishedPortsAlong) {
  PodEntry pod = created("web");
  std::vector<std::string> heard;
  directory_.on_change([&](const Change& change) {
    if (change.listener) heard.push_back("listener");
    if (change.published) heard.push_back("published");
    if (change.pod) heard.push_back("pod");
  });
  EXPECT_EQ(run(listener_added({1, pod.id, 0, 80})).code, 0);
  EXPECT_EQ(run(port_published({"a", "0.0.0.0", 8080, pod.id, 80})).code, 0);
  EXPECT_EQ(run(port_published({"a", "0.0.0.0", 8080, pod.id, 81})).code, EADDRINUSE);
  heard.clear();
  EXPECT_EQ(run(pod_ended(pod.id, 1)).code, 0);
  EXPECT_EQ(heard, (std::vector<std::string>{"listener", "published", "pod"}));
  EXPECT_TRUE(directory_.listeners().empty());
  EXPECT_TRUE(directory_.published().empty());
}

TEST_F(DirectoryTest, AListenerIsFoundByItsPodsAddressAndByPortAlone) {
  PodEntry one = created("one"), two = created("two");
  ASSERT_EQ(run(listener_added({1, one.id, 0, 80})).code, 0);
  ASSERT_EQ(run(listener_added({2, two.id, two.virtual_address, 80})).code, 0);
  EXPECT_EQ(directory_.listener_at(one.virtual_address, 80)->id, 1u);
  EXPECT_EQ(directory_.listener_at(two.virtual_address, 80)->id, 2u);
  EXPECT_EQ(directory_.listener_at(0, 80)->id, 1u);
  EXPECT_EQ(directory_.listener_at(one.virtual_address, 81), nullptr);
}

TEST_F(DirectoryTest, AHostIsItsHomeAndItsNameBelongsToIt) {
  EXPECT_EQ(run({400, 1, 0}, host_joined(host("a", 400, 9, 2))).code, EEXIST);
  EXPECT_EQ(run({400, 2, 0}, host_joined(host("b", 400, 7, 2))).code, EADDRINUSE);
  EXPECT_EQ(run({200, 1, 0}, host_joined(host("renamed", 200))).code, 0);
  EXPECT_FALSE(directory_.host("a"));
  ASSERT_EQ(run({200, 2, 0}, pod_created("web", "", "renamed", "")).code, 0);
  EXPECT_EQ(run({201, 1, 0}, host_joined(host("again", 201))).code, EBUSY);
}

TEST_F(DirectoryTest, AHostThatLeavesStaysOnTheListWhileItHasPods) {
  PodEntry pod = created("web");
  EXPECT_EQ(run(host_left("a")).code, 0);
  EXPECT_FALSE(directory_.host("a")->present);
  EXPECT_EQ(run(pod_ended(pod.id, 1)).code, 0);
  EXPECT_EQ(run(host_left("a")).code, 0);
  EXPECT_FALSE(directory_.host("a"));
}

TEST_F(DirectoryTest, ASnapshotIsTheWholeState) {
  PodEntry pod = created("web");
  run(listener_added({1, pod.id, 0, 80}));
  run(port_published({"a", "0.0.0.0", 8080, pod.id, 80}));
  Directory copy;
  int changes = 0;
  copy.on_change([&](const Change&) { ++changes; });
  ASSERT_TRUE(copy.install(directory_.snapshot()));
  EXPECT_EQ(changes, 4);
  EXPECT_EQ(copy.snapshot(), directory_.snapshot());
  ASSERT_TRUE(copy.install(directory_.snapshot()));
  EXPECT_EQ(changes, 4);  // nothing new to tell
}

TEST_F(DirectoryTest, AMalformedBatchChangesNothing) {
  Packed before = directory_.snapshot();
  for (std::string_view bytes : {"", "\xc1", "\x91\x91\x01", "garbage"}) {
    uint64_t index = directory_.applied() + 1;
    EXPECT_TRUE(directory_.apply(index, bytes).empty());
    EXPECT_EQ(directory_.applied(), index);
  }
  EXPECT_EQ(run({100, 90, 0}, {"no.such", pack_map()}).code, ENOSYS);
  EXPECT_EQ(run({100, 91, 0}, {"pod.created", pack("not a map")}).code, EINVAL);
  EXPECT_EQ(directory_.pods().size(), 0u);
}

}  // namespace
}  // namespace godwit
