// The log of durable spaces is cut, flipped, killed and left without room: what was acknowledged is there, and nothing else.
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "tests/support/durable_host.hh"
#include "tests/support/syscall_steps.hh"
#include "tuplespace/journal/reader.hh"
#include "tuplespace/posix/file.hh"
#include "tuplespace/store/durability.hh"
#include "tuplespace/store/reap.hh"

namespace godwit::testing {
namespace {

using Texts = std::vector<std::string>;

Tuple item(int i) { return Tuple{"k", i}; }
bool keep_it(TupleView) { return true; }

// What both spaces hold after each of the operations, which are done here.
class Story {
 public:
  Story() : host_({.reserve_bytes = 4096}) {
    tell();
    Store d = host_.create("d", true);
    tell();
    Store e = host_.create("e", true);
    tell();
    for (int i = 0; i < 4; ++i) out(d, item(i)), tell();
    (void)inp(d, "(\"k\", 1)"), tell();
    const Tuple several[] = {item(10), item(11)};
    EXPECT_TRUE(e.out_all(several).has_value());
    tell();
    EXPECT_EQ(d.collect(e, AnyOf("(\"k\", 2..3)").wanted()).value(), 2u);
    tell();
    store::Desk& desk = **store::Desk::of(host_.segment());
    store::Transaction& transaction = *store::begin_transaction(desk);
    const Tuple moved = item(20);
    for (Store* space : {&d, &e}) {
      EXPECT_TRUE(space->in_within(transaction, AnyOf("(?, ?)").wanted(), nullptr, keep_it).value());
      EXPECT_TRUE(space->out_within(transaction, views_of(moved)).has_value());
    }
    EXPECT_TRUE(Store::commit(host_.segment(), transaction).has_value());
    tell();
    EXPECT_TRUE(store::drop_space(desk, "d").has_value());
    tell();
    host_.stop();
    auto whole = read_file(host_.log());
    EXPECT_TRUE(whole.has_value());
    log_ = whole->substr(0, end_of_records());
  }

  using State = std::pair<std::optional<Texts>, std::optional<Texts>>;
  const std::string& log() const { return log_; }
  State whole() const { return states_.back(); }
  /// How far in the story such a state is; nullopt: it is none of it.
  std::optional<size_t> place_of(const State& state) const {
    auto found = std::find(states_.begin(), states_.end(), state);
    return found == states_.end() ? std::nullopt : std::optional<size_t>(found - states_.begin());
  }
  /// What the host holds that starts with these bytes for its log. nullopt: it does not start.
  std::optional<State> state_with(const std::string& log) {
    host_.stop();
    host_.lose_memory();
    std::filesystem::remove_all(host_.folder());
    std::filesystem::create_directory(host_.folder());
    EXPECT_TRUE(replace_file(host_.log(), log, Durable::kNo).has_value());
    if (!host_.start()) return std::nullopt;
    return State{host_.tuples("d"), host_.tuples("e")};
  }
  std::string error() const { return host_.error().message(); }

 private:
  // Behind it are zeros.
  size_t end_of_records() const {
    auto reader = journal::Reader::open(host_.log());
    EXPECT_TRUE(reader->read_head(journal::kLogMark).has_value());
    while (reader->next().value() == journal::Reader::Found::kRecord) continue;
    return reader->offset();
  }
  void tell() { states_.push_back({host_.tuples("d"), host_.tuples("e")}); }

  DurableHost host_;
  std::vector<State> states_;
  std::string log_;
};

TEST(SpaceLogCut, AtAnyByteIsWhatWasDoneUntilThen) {
  Story story;
  size_t last = 0;
  for (size_t length = 0; length <= story.log().size(); ++length) {
    auto state = story.state_with(story.log().substr(0, length));
    ASSERT_TRUE(state.has_value()) << length << ": " << story.error();
    auto place = story.place_of(*state);
    ASSERT_TRUE(place.has_value()) << "cut at " << length << ": " << ::testing::PrintToString(*state);
    ASSERT_GE(*place, last) << "cut at " << length;
    last = *place;
  }
  EXPECT_EQ(story.state_with(story.log()), story.whole());
}

TEST(SpaceLogFlipped, InAnyBitIsToldOfOrIsWhatWasDoneUntilThen) {
  Story story;
  size_t told = 0;
  for (size_t bit = 0; bit < story.log().size() * 8; bit += 3) {
    std::string flipped = story.log();
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
    auto state = story.state_with(flipped);
    told += !state;
    if (state) ASSERT_TRUE(story.place_of(*state).has_value()) << "bit " << bit;
    else ASSERT_NE(story.error().find("wal."), std::string::npos) << story.error();
  }
  EXPECT_GT(told, story.log().size());
}

// What a process has been told, in memory that outlives it.
struct Told {
  static constexpr int kMost = 256;
  std::atomic<int> asked[kMost], done[kMost];
  std::atomic<int> taken[kMost];
};

// The node and a program in one process, which may be killed at any time.
void live(DurableHost& host, Told& told) {
  ASSERT_TRUE(host.start());
  Store d = host.open("d");
  for (int i = 0; i < 6; ++i) {
    told.asked[i] = 1;
    if (put(d, item(i))) told.done[i] = 1;
    if (i % 3 != 2) continue;
    std::string got = inp(d, "(\"k\", ?)");
    told.taken[i / 3] = 1;
  }
  host.stop();
}

// With which memory it goes on, the old one or another.
void kill_at_any_call(bool loses_memory) {
  auto& told = *static_cast<Told*>(mmap(nullptr, sizeof(Told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  int limit = 1;
  for (bool ended = false; !ended; limit += 2) {
    memset(static_cast<void*>(&told), 0, sizeof told);
    DurableHost host({.snapshot_bytes = 300, .reserve_bytes = 4096});
    host.create("d", true);
    host.stop();
    Synced synced;
    ended = lives_through([&] { live(host, told); }, limit, synced);
    if (loses_memory) host.lose_memory();
    ASSERT_TRUE(host.start()) << limit << ": " << host.error().message();
    store::reap(**store::Desk::of(host.segment()));
    auto there = host.tuples("d");
    ASSERT_TRUE(there.has_value()) << limit;
    int asked = 0, done = 0, taken = 0;
    for (int i = 0; i < 6; ++i) asked += told.asked[i], done += told.done[i];
    for (int i = 0; i < 2; ++i) taken += told.taken[i];
    // In order and without a gap; one more may have been put, and one more taken, than was acknowledged.
    ASSERT_FALSE(there->empty() && done > taken + 1) << limit;
    int first = there->empty() ? taken : static_cast<int>(*tuple_of(there->front())[1].get<int64_t>());
    for (size_t i = 0; i < there->size(); ++i) ASSERT_EQ((*there)[i], to_text(item(first + static_cast<int>(i)))) << limit;
    int put = first + static_cast<int>(there->size());
    ASSERT_TRUE(first == taken || first == taken + 1) << limit << ": " << first << " of " << taken << " taken";
    ASSERT_TRUE(there->empty() || (put >= done && put <= asked)) << limit << ": " << put << " of " << done << " to " << asked;
    Store d = host.open("d");
    ASSERT_TRUE(testing::put(d, Tuple{"after", 1}).has_value()) << limit;
  }
  printf("killed at %d beginnings and ends of system calls\n", limit / 2 - 1);
  EXPECT_GT(limit, 50);
  munmap(&told, sizeof told);
}

TEST(SpaceLogKilled, AtAnySystemCallWithItsMemory) { kill_at_any_call(true); }
TEST(SpaceLogKilled, AtAnySystemCallAndItsMemoryLivesOn) { kill_at_any_call(false); }

// With a tmpfs of 8 MiB for the log, in a namespace that nobody else sees.
TEST(SpaceLogDisk, ThatIsFullRefusesWhatIsPutAndGoesOnWhenThereIsRoom) {
  fflush(nullptr);
  pid_t child = fork();
  if (child == 0) {
    int space = geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS;
    DurableHost host({.reserve_bytes = 256 << 10});
    std::filesystem::create_directory(host.folder());
    host.stop();
    if (unshare(space) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", host.folder().c_str(), "tmpfs", 0, "size=8m") != 0)
      _exit(2);
    [&] {
      std::string ballast = host.folder() + "/ballast";
      ASSERT_TRUE(replace_file(ballast, std::string(4 << 20, 'b'), Durable::kNo).has_value());
      ASSERT_TRUE(host.start());
      Store d = host.create("d", true);
      const Tuple large{"k", Bytes{std::string(10000, 'x')}};
      Result<void> done;
      int many = 0;
      while ((done = put(d, large))) ++many;
      EXPECT_EQ(done.error().code, std::errc::no_space_on_device) << done.error().message();
      EXPECT_GT(many, 10);
      EXPECT_EQ(count(d, "(?, ?)"), static_cast<uint64_t>(many));
      EXPECT_EQ(put(d, large).error().code, std::errc::no_space_on_device);
      EXPECT_NE(inp(d, "(?, ?)"), "absent");
      std::filesystem::remove(ballast);
      while (!(done = put(d, large))) ASSERT_EQ(done.error().code, std::errc::no_space_on_device);
      auto there = host.tuples("d");
      EXPECT_EQ(there->size(), static_cast<size_t>(many));
      host.restart();
      EXPECT_EQ(host.tuples("d"), there);
    }();
    host.stop();
    umount(host.folder().c_str());
    fflush(nullptr);
    bool failed = ::testing::Test::HasFailure();
    host.lose_memory();
    _exit(failed);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace godwit::testing
