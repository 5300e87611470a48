// What a journal does for who appends, waits and takes snapshots; and when the disk does not take it.
#include "tuplespace/journal/journal.hh"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/support/journal.hh"
#include "tuplespace/fault.hh"

namespace godwit {
namespace {

using test::TempFolder;
using testing::content;
using testing::log_path;
using testing::OpenJournal;
using testing::put_content;
using testing::save;

using Texts = std::vector<std::string>;

Texts names(const std::string& folder) {
  Texts out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) out.push_back(entry.path().filename());
  std::sort(out.begin(), out.end());
  return out;
}

// No file can grow beyond so many bytes while it lives.
class SmallDisk {
 public:
  explicit SmallDisk(uint64_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit small{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallDisk() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

// A fault in this process while it lives.
class SetFault {
 public:
  explicit SetFault(const char* words) { fault_in_force().set(words); }
  ~SetFault() { fault_in_force().set(nullptr); }
};

TEST(Journal, GivesBackWhatWasAppendedInOrder) {
  TempFolder folder;
  {
    OpenJournal open(folder.path());
    EXPECT_TRUE(open.records.empty());
    EXPECT_EQ(*open.append("one"), 1u);
    EXPECT_EQ(*open.append(""), 2u);
    EXPECT_EQ(*open.append(std::string(100000, 'x')), 3u);
    EXPECT_EQ(open.journal->durable(), 3u);
  }
  OpenJournal again(folder.path());
  EXPECT_EQ(again.texts(), (Texts{"one", "", std::string(100000, 'x')}));
  EXPECT_EQ(again.records.front().first, 1u);
  EXPECT_EQ(again.torn_bytes, 0u);
  EXPECT_EQ(*again.append("four"), 4u);
}

TEST(Journal, WritesWhatIsQueuedBeforeItEnds) {
  TempFolder folder;
  {
    OpenJournal open(folder.path());
    for (int i = 0; i < 1000; ++i) ASSERT_TRUE(open.journal->append(std::to_string(i)));
    open.journal.reset();
    uint64_t next = 1;
    for (const auto& settled : open.settled) {
      EXPECT_TRUE(settled.outcome);
      EXPECT_EQ(settled.first, next);
      next += settled.count;
    }
    EXPECT_EQ(next, 1001u);
  }
  EXPECT_EQ(OpenJournal(folder.path()).records.size(), 1000u);
}

TEST(Journal, ManyThreadsAppendAtOnce) {
  constexpr int kThreads = 16, kEach = 500;
  TempFolder folder;
  std::vector<std::vector<uint64_t>> sequences(kThreads);
  {
    OpenJournal open(folder.path(), {.rotate_bytes = 20000, .queue_bytes = 1000});
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < kEach; ++i) {
          auto appended = open.journal->append(std::to_string(t) + " " + std::to_string(i));
          sequences[t].push_back(appended->sequence());
          if (i % 50 == 0) {
            EXPECT_TRUE(open.journal->wait_durable(*appended, kForever));
            EXPECT_GE(open.journal->durable(), appended->sequence());
          }
        }
      });
    for (auto& thread : threads) thread.join();
  }
  OpenJournal again(folder.path());
  ASSERT_EQ(again.records.size(), size_t{kThreads * kEach});
  for (int t = 0; t < kThreads; ++t)
    for (int i = 0; i < kEach; ++i)
      EXPECT_EQ(again.records[sequences[t][i] - 1].second, std::to_string(t) + " " + std::to_string(i));
  EXPECT_GT(names(folder.path()).size(), 2u);  // it has rotated
}

TEST(Journal, AnAppendWaitsWhileTheQueueIsFull) {
  TempFolder folder;
  auto nothing = [](auto...) -> Result<void> { return {}; };
  std::atomic<bool> disk_is_free = false;
  auto hold_up = [&](const Journal::Settled&) { disk_is_free.wait(false); };
  auto opened = Journal::open(folder.path(), {.queue_bytes = 200}, {nothing, nothing, hold_up});
  ASSERT_TRUE(opened);
  Journal& journal = *opened->journal;
  ASSERT_TRUE(journal.append("holds up the writing thread"));
  while (journal.durable() < 1) std::this_thread::yield();
  std::atomic<int> appended = 0;
  std::thread appender([&] {
    for (; appended < 10; ++appended) EXPECT_TRUE(journal.append(std::string(100, 'x')));
  });
  while (appended < 2) std::this_thread::yield();
  for (int i = 0; i < 1000; ++i) {
    std::this_thread::yield();
    EXPECT_EQ(appended, 2);  // less than 200 bytes, and one more
  }
  disk_is_free = true;
  disk_is_free.notify_all();
  appender.join();
  opened->journal.reset();
  EXPECT_EQ(OpenJournal(folder.path()).records.size(), 11u);
}

TEST(Journal, AWaitEndsAtItsDeadlineAndTheRecordComesAllTheSame) {
  TempFolder folder;
  OpenJournal open(folder.path());
  auto appended = open.journal->append("a record");
  auto waited = open.journal->wait_durable(*appended, std::chrono::steady_clock::now());
  if (!waited) { EXPECT_EQ(waited.error().code, std::errc::timed_out); }
  EXPECT_TRUE(open.journal->wait_durable(*appended, kForever));
}

TEST(Journal, FilesAreItsUsersAlone) {
  TempFolder folder;
  OpenJournal open(folder.path(), {.rotate_bytes = 1});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(open.append("x"));
  ASSERT_TRUE(save(*open.journal, 1, {"state"}));
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    struct stat status;
    ASSERT_EQ(stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u) << entry.path();
  }
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry.path(), gone).string().starts_with(folder.path())) {
      EXPECT_TRUE(fcntl(std::stoi(entry.path().filename()), F_GETFD) & FD_CLOEXEC);
    }
  }
}

TEST(Journal, ASnapshotStandsForRecordsAndTheirFilesGo) {
  TempFolder folder;
  {
    OpenJournal open(folder.path(), {.rotate_bytes = 1});
    for (int i = 1; i <= 10; ++i) ASSERT_EQ(*open.append(std::to_string(i)), static_cast<uint64_t>(i));
    ASSERT_TRUE(save(*open.journal, 8, {"eight", "", std::string(1 << 20, 's')}));
    EXPECT_EQ(names(folder.path()), (Texts{"snapshot", journal::log_name(9), journal::log_name(10)}));
    ASSERT_TRUE(open.append("11"));
  }
  {
    OpenJournal again(folder.path());
    EXPECT_EQ(again.snapshot, (Texts{"eight", "", std::string(1 << 20, 's')}));
    EXPECT_EQ(again.snapshot_at, 8u);
    EXPECT_EQ(again.texts(), (Texts{"9", "10", "11"}));
    ASSERT_TRUE(save(*again.journal, 11, {}));
    EXPECT_EQ(names(folder.path()), (Texts{"snapshot", journal::log_name(11)}));
  }
  OpenJournal third(folder.path());
  EXPECT_TRUE(third.snapshot.empty());
  EXPECT_EQ(third.snapshot_at, 11u);
  EXPECT_TRUE(third.records.empty());
  EXPECT_EQ(*third.append("12"), 12u);
}

TEST(Journal, ASnapshotThatIsNotCommittedIsNone) {
  TempFolder folder;
  OpenJournal open(folder.path());
  ASSERT_TRUE(open.append("one"));
  {
    auto snapshot = open.journal->begin_snapshot(1);
    ASSERT_TRUE(snapshot && snapshot->add("state"));
    auto second = open.journal->begin_snapshot(1);
    EXPECT_EQ(second.error().code, std::errc::file_exists);
  }
  EXPECT_EQ(names(folder.path()), Texts{journal::log_name(1)});
  put_content(folder.path() + "/snapshot.new", "left by one that was killed");
  open.journal.reset();
  OpenJournal again(folder.path());
  EXPECT_EQ(again.snapshot_at, 0u);
  EXPECT_EQ(again.texts(), Texts{"one"});
  EXPECT_TRUE(save(*again.journal, 1, {"state"}));
}

TEST(Journal, AFullDiskRefusesWhatIsNotDurableAndLeavesNoTraceOfIt) {
  for (uint64_t room = 0; room < 150; room += 7) {
    TempFolder folder;
    {
      OpenJournal open(folder.path());
      ASSERT_TRUE(open.append("kept"));
      {
        SmallDisk disk(std::filesystem::file_size(log_path(folder.path())) + room);
        auto first = open.journal->append(std::string(60, 'a')), second = open.journal->append(std::string(60, 'b'));
        ASSERT_TRUE(first && second);
        bool first_fits = open.journal->wait_durable(*first, kForever).has_value();
        auto refused = open.journal->wait_durable(*second, kForever);
        ASSERT_FALSE(refused);  // the first may have been written alone
        EXPECT_EQ(refused.error().code, std::errc::file_too_large);
        EXPECT_NE(refused.error().what.find(log_path(folder.path())), std::string::npos) << refused.error().what;
        EXPECT_EQ(open.journal->durable(), first_fits ? 2u : 1u);
        if (first_fits) continue;
      }
      EXPECT_EQ(*open.append("fits"), 2u);
    }
    OpenJournal again(folder.path());
    EXPECT_EQ(again.texts(), (Texts{"kept", "fits"}));
    EXPECT_EQ(again.torn_bytes, 0u);
  }
}

TEST(Journal, AFileThatCannotBeBegunIsTriedAgain) {
  TempFolder folder;
  {
    OpenJournal open(folder.path(), {.rotate_bytes = 1});
    ASSERT_TRUE(open.append("kept"));
    {
      SmallDisk disk(13);  // not a head
      EXPECT_FALSE(open.append("refused"));
    }
    EXPECT_EQ(*open.append("fits"), 2u);
    SmallDisk disk(13);
    EXPECT_FALSE(open.append("refused"));
  }
  OpenJournal again(folder.path());
  EXPECT_EQ(again.texts(), (Texts{"kept", "fits"}));
  EXPECT_EQ(*again.append("more"), 3u);
}

TEST(Journal, ASnapshotThatDoesNotFitLeavesTheFormerOne) {
  TempFolder folder;
  OpenJournal open(folder.path());
  ASSERT_TRUE(open.append("one"));
  ASSERT_TRUE(save(*open.journal, 1, {"former"}));
  ASSERT_TRUE(open.append("two"));
  {
    auto ignored = signal(SIGXFSZ, SIG_IGN);
    SmallDisk disk(100);
    auto saved = save(*open.journal, 2, {std::string(1000, 'x')});
    ASSERT_FALSE(saved);
    EXPECT_EQ(saved.error().code, std::errc::file_too_large);
    signal(SIGXFSZ, ignored);
  }
  open.journal.reset();
  OpenJournal again(folder.path());
  EXPECT_EQ(again.snapshot, Texts{"former"});
  EXPECT_EQ(again.texts(), Texts{"two"});
}

TEST(Journal, AfterAFailedSyncNothingIsTakenUntilItIsOpenedAnew) {
  TempFolder folder;
  {
    SetFault fault("journal.sync:2:error");
    OpenJournal open(folder.path());
    ASSERT_TRUE(open.append("kept"));
    auto refused = open.append("refused");
    EXPECT_EQ(refused.error().code, std::errc::io_error);
    auto closed = open.journal->append("closed");
    ASSERT_FALSE(closed);
    EXPECT_EQ(closed.error().code, std::errc::io_error);
    EXPECT_NE(closed.error().message().find("open it anew"), std::string::npos);
    EXPECT_EQ(open.journal->durable(), 1u);
  }
  OpenJournal again(folder.path());
  EXPECT_EQ(again.texts(), Texts{"kept"});
  EXPECT_EQ(*again.append("goes on"), 2u);
}

TEST(Journal, AnErrorOfWhoHearsEndsOpen) {
  TempFolder folder;
  { ASSERT_TRUE(OpenJournal(folder.path()).append("one")); }
  auto nothing = [](std::string_view) -> Result<void> { return {}; };
  auto refuse = [](uint64_t, std::string_view) -> Result<void> { return make_error(std::errc::invalid_argument, "no"); };
  auto opened = Journal::open(folder.path(), {}, {nothing, refuse, {}});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().what, "no");
}

TEST(Journal, AFolderThatIsNotThereIsAnError) {
  OpenJournal open("/nonexistent/folder");
  EXPECT_EQ(open.journal, nullptr);
  EXPECT_EQ(open.error.code, std::errc::no_such_file_or_directory);
}

}  // namespace
}  // namespace godwit
