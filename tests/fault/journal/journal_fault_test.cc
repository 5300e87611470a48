// The process that writes a journal is killed between any two of its system calls, or its host; its disk is full; its
// records are very large. What was acknowledged is there, what was refused is not.
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>

#include "tests/support/journal.hh"
#include "tests/support/syscall_steps.hh"
#include "tuplespace/journal/crc32c.hh"

namespace godwit {
namespace {

using test::TempFolder;
using testing::lives_through;
using testing::log_path;
using testing::OpenJournal;
using testing::save;
using testing::Synced;

enum class Fate : uint8_t { kNotTried, kTried, kAcknowledged, kRefused };

// What a victim has been told of its records; in memory that outlives it.
class Ledger {
 public:
  static constexpr size_t kRecords = 64;

  Ledger() {
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    GODWIT_CHECK(page != MAP_FAILED);
    fates_ = new (page) Fates{};
  }
  ~Ledger() { munmap(fates_, 4096); }
  std::atomic<Fate>& operator[](size_t record) { return fates_->at(record); }
  int count(Fate fate) const { return static_cast<int>(std::count(fates_->begin(), fates_->end(), fate)); }

 private:
  using Fates = std::array<std::atomic<Fate>, kRecords>;
  Fates* fates_;
};

std::string text_of(size_t record) { return std::to_string(record) + " " + std::string(record * 7 % 50, '.'); }

// Appends records in small bunches, and says in the ledger what becomes of them.
class Writer {
 public:
  Writer(const std::string& folder, Ledger& ledger) : ledger_(ledger), open_(folder, {.rotate_bytes = 300}) {}

  void append(size_t count) {
    std::vector<std::pair<size_t, Journal::Appended>> appended;
    for (size_t i = 0; i < count; ++i, ++next_) {
      ledger_[next_] = Fate::kTried;
      appended.emplace_back(next_, *open_.journal->append(text_of(next_)));
    }
    for (auto& [record, on_its_way] : appended) {
      bool durable = open_.journal->wait_durable(on_its_way, kForever).has_value();
      ledger_[record] = durable ? Fate::kAcknowledged : Fate::kRefused;
      if (durable) kept_.push_back(text_of(record));
    }
  }
  void snapshot() { GODWIT_CHECK(save(*open_.journal, kept_.size(), kept_)); }

 private:
  Ledger& ledger_;
  OpenJournal open_;
  size_t next_ = 0;
  std::vector<std::string> kept_;
};

// What was recovered agrees with what the writer was told.
void check(const OpenJournal& open, Ledger& ledger) {
  ASSERT_TRUE(open.journal) << open.error.message();
  ASSERT_EQ(open.snapshot_at, open.snapshot.size());
  for (size_t i = 0; i < open.records.size(); ++i) ASSERT_EQ(open.records[i].first, open.snapshot_at + i + 1);
  std::vector<std::string> all = open.snapshot;
  for (const auto& text : open.texts()) all.push_back(text);
  size_t record = 0;
  auto passed_over = [&] { ASSERT_NE(ledger[record].load(), Fate::kAcknowledged) << record << " was lost"; };
  for (const auto& text : all) {
    for (; record < Ledger::kRecords && text != text_of(record); ++record) passed_over();
    ASSERT_LT(record, Ledger::kRecords) << "twice, out of order or never appended: " << text;
    ASSERT_NE(ledger[record].load(), Fate::kNotTried) << record;
    ASSERT_NE(ledger[record].load(), Fate::kRefused) << record;
    ++record;
  }
  for (; record < Ledger::kRecords; ++record) passed_over();
}

// As when the host loses its power: what was not synced is not there.
void lose_what_is_not_synced(const std::string& folder, const Synced& synced) {
  for (const auto& [first, path] : journal::log_files(folder))
    if (std::filesystem::file_size(path) > synced.bytes_of(path)) std::filesystem::resize_file(path, synced.bytes_of(path));
}

enum class Loses { kProcess, kHost };

// refuses  whether it shall be refused something.
template <class Life>
void kill_at_every_call(Life life, Loses loses, bool refuses) {
  int limit = 1, in_part = 0, refused = 0;
  for (bool ended = false; !ended; ++limit) {
    TempFolder folder;
    Ledger ledger;
    Synced synced;
    ended = lives_through([&] { life(folder.path(), ledger); }, limit, synced);
    if (loses == Loses::kHost) lose_what_is_not_synced(folder.path(), synced);
    {
      OpenJournal open(folder.path());
      check(open, ledger);
      in_part += open.torn_bytes > 0;
      refused += ledger.count(Fate::kRefused);
      ASSERT_FALSE(::testing::Test::HasFailure()) << "killed at " << limit;
      ASSERT_TRUE(open.append("after"));
    }
    OpenJournal again(folder.path());
    ASSERT_TRUE(again.journal) << again.error.message();
    ASSERT_EQ(again.texts().back(), "after");
  }
  printf("killed at %d beginnings and ends of system calls, %d times with a torn tail; %d refused\n", limit - 2, in_part, refused);
  EXPECT_EQ(refused > 0, refuses);
}

void write_and_save(const std::string& folder, Ledger& ledger) {
  Writer writer(folder, ledger);
  for (int i = 0; i < 3; ++i) writer.append(3);
  writer.snapshot();
  for (int i = 0; i < 3; ++i) writer.append(4);
  writer.snapshot();
  writer.append(1);
}

void write_to_a_full_disk(const std::string& folder, Ledger& ledger) {
  Writer writer(folder, ledger);
  writer.append(2);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  for (uint64_t bytes : {170, 250, 20}) {
    rlimit small{bytes, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    writer.append(5);
    setrlimit(RLIMIT_FSIZE, &before);
    writer.append(2);
  }
}

TEST(JournalKilled, BetweenAnyTwoSystemCalls) { kill_at_every_call(write_and_save, Loses::kProcess, false); }
TEST(JournalKilled, WithItsHost) { kill_at_every_call(write_and_save, Loses::kHost, false); }
TEST(JournalKilled, WhileTheDiskIsFull) { kill_at_every_call(write_to_a_full_disk, Loses::kProcess, true); }
TEST(JournalKilled, WithItsHostWhileTheDiskIsFull) { kill_at_every_call(write_to_a_full_disk, Loses::kHost, true); }

// With a tmpfs of 512 KiB on the folder, in a namespace that nobody else sees. life's failures are the test's.
template <class F>
void on_small_disk(const std::string& folder, F life) {
  fflush(nullptr);
  pid_t child = fork();
  if (child == 0) {
    int space = geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS;
    if (unshare(space) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=512k") != 0)
      _exit(2);
    life();
    fflush(nullptr);
    _exit(::testing::Test::HasFailure());
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(JournalDisk, ThatIsFullRefusesAndGoesOnWhenThereIsRoom) {
  TempFolder folder;
  on_small_disk(folder.path(), [&] {
    std::string record(10000, 'r'), ballast = folder.path() + "/ballast";
    std::vector<std::string> kept;
    testing::put_content(ballast, std::string(200000, 'b'));
    {
      OpenJournal open(folder.path(), {.rotate_bytes = 50000});
      Result<uint64_t> appended = uint64_t{0};
      while ((appended = open.append(record + std::to_string(kept.size())))) kept.push_back(record + std::to_string(kept.size()));
      EXPECT_GT(kept.size(), 10u);
      for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(appended.error().code, std::errc::no_space_on_device) << appended.error().message();
        appended = open.append(record + "refused");
      }
      EXPECT_FALSE(save(*open.journal, kept.size(), kept));
      std::filesystem::remove(ballast);
      for (const char* more : {"more", "and more"}) {
        ASSERT_TRUE(open.append(record + more));
        kept.push_back(record + more);
      }
    }
    {
      OpenJournal again(folder.path());
      EXPECT_EQ(again.texts(), kept);
      EXPECT_EQ(again.torn_bytes, 0u);
      ASSERT_TRUE(save(*again.journal, kept.size(), {"state"}));
      for (int i = 0; i < 20; ++i) EXPECT_TRUE(again.append(record));  // in the room of the files that are gone
    }
    EXPECT_EQ(OpenJournal(folder.path()).records.size(), 20u);
  });
}

TEST(JournalRecord, OfMoreThanAGibibyteComesBack) {
  constexpr size_t kLarge = 1181116006;  // 1.1 GiB
  TempFolder folder;
  auto bytes_of = [](size_t length) {
    std::string out(length, '\0');
    for (size_t i = 0; i < out.size(); i += 4096) out[i] = static_cast<char>(i >> 12);
    return out;
  };
  uint32_t checksum;
  {
    OpenJournal open(folder.path());
    std::string large = bytes_of(kLarge);
    checksum = crc32c(large);
    ASSERT_TRUE(open.append("before"));
    ASSERT_EQ(*open.append(std::move(large)), 2u);
    ASSERT_TRUE(open.append("after"));
    auto snapshot = open.journal->begin_snapshot(1);
    ASSERT_TRUE(snapshot && snapshot->add(bytes_of(kLarge)) && snapshot->commit());
  }
  std::vector<uint32_t> heard;
  auto hear = [&](std::string_view record) -> Result<void> {
    heard.push_back(crc32c(record));
    return {};
  };
  auto opened = Journal::open(folder.path(), {}, {hear, [&](uint64_t, std::string_view record) { return hear(record); }, {}});
  ASSERT_TRUE(opened) << opened.error().message();
  EXPECT_EQ(heard, (std::vector<uint32_t>{checksum, checksum, crc32c("after")}));
}

}  // namespace
}  // namespace godwit
