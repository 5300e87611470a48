// The keeper: what was put survives whoever put it, by SIGKILL too, and comes back whole.
#include "tuplespace/node/keeper.hh"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "support/godwit_process.hh"

namespace godwit {
namespace {

using namespace test;

class KeeperTest : public ::testing::Test {
 protected:
  KeeperTest() {
    setenv("GODWIT_EXECUTABLE", GODWIT_BINARY, 1);
    setenv("GODWIT_HOME", folder_.path().c_str(), 1);
    home_.emplace(std::move(*Home::open_at(folder_.path())));
  }
  // The keeper ends by itself once it holds nothing and nobody is connected.
  ~KeeperTest() override {
    Keeper keeper(*home_);
    auto held = keeper.list();
    if (!held) return;
    for (const auto& entry : *held) EXPECT_TRUE(keeper.drop(entry.name));
  }
  TempFolder folder_;
  std::optional<Home> home_;
};

TEST_F(KeeperTest, ListsAndDropsAndReplaces) {
  Keeper keeper(*home_);
  EXPECT_TRUE(keeper.all()->empty());  // none runs
  EXPECT_TRUE(keeper.drop("nothing"));
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  UniqueFd near(pair[0]), far(pair[1]);
  ASSERT_TRUE(keeper.put("one", std::span(&pair[1], 1), "about one"));
  ASSERT_TRUE(keeper.put("two", {}, "about two"));
  auto listed = keeper.list();
  ASSERT_EQ(listed->size(), 2u);
  EXPECT_EQ((*listed)[0].name, "one");
  EXPECT_EQ((*listed)[0].blob, "about one");
  EXPECT_TRUE((*listed)[0].fds.empty());
  far.reset();  // only the keeper has it now
  ASSERT_TRUE(keeper.put("one", {}, "replaced"));
  char byte;
  EXPECT_EQ(::read(near.get(), &byte, 1), 0);  // so its last copy is gone
  ASSERT_TRUE(keeper.drop("one"));
  EXPECT_EQ(keeper.list()->size(), 1u);
}

TEST_F(KeeperTest, RefusesWhatItCannotHoldWhole) {
  Keeper keeper(*home_);
  std::vector<int> many(kMaxHeldDescriptors + 1, 0);
  EXPECT_FALSE(keeper.put("many", many, ""));
  EXPECT_FALSE(keeper.put("long", {}, std::string(kMaxHeldBlob + 1, 'x')));
  EXPECT_TRUE(keeper.put("most", std::span(many).first(kMaxHeldDescriptors), std::string(kMaxHeldBlob, 'x')));
  EXPECT_EQ(keeper.all()->at(0).fds.size(), kMaxHeldDescriptors);
}

TEST_F(KeeperTest, OutlivesAKilledNodeAndGivesEverythingBack) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  UniqueFd near(pair[0]), far(pair[1]);
  pid_t child = fork();
  if (child == 0) {
    Keeper keeper(*home_);
    for (int i = 0; i < 20; ++i)
      if (!keeper.put("connection-" + std::to_string(i), std::span(&pair[1], 1), "blob " + std::to_string(i))) _exit(1);
    kill(getpid(), SIGKILL);
  }
  EXPECT_EQ(wait_for(child), 128 + SIGKILL);
  far.reset();
  Keeper restarted(*home_);
  auto held = restarted.all();
  ASSERT_TRUE(held) << held.error().message();
  ASSERT_EQ(held->size(), 20u);
  for (const auto& entry : *held) {
    ASSERT_EQ(entry.fds.size(), 1u);
    EXPECT_TRUE(entry.blob.starts_with("blob "));
    ASSERT_EQ(write(entry.fds[0].get(), "x", 1), 1);
    char byte = 0;
    EXPECT_EQ(::read(near.get(), &byte, 1), 1);
  }
  EXPECT_EQ(restarted.all()->size(), 20u);  // it still holds them
}

}  // namespace
}  // namespace godwit
