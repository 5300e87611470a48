// A journal cut at any byte is a prefix; with any bit flipped it never gives out a wrong record, and says so
// unless only its last write is concerned; and of files that are missing, foreign or too new it says so.
#include <algorithm>

#include "tests/support/journal.hh"
#include "tuplespace/journal/crc32c.hh"

namespace godwit {
namespace {

using test::TempFolder;
using testing::content;
using testing::kJournalHead;
using testing::log_path;
using testing::OpenJournal;
using testing::put_content;
using testing::save;

using Texts = std::vector<std::string>;

const Texts kTexts{"alpha", "", "GWJR gamma", std::string(70, 'd'), "epsilon"};

// A log of one file, each record of which was waited for. sizes[n]: of the file with n records.
std::string log_of(const Texts& texts, std::vector<size_t>& sizes) {
  TempFolder folder;
  OpenJournal open(folder.path());
  sizes = {std::filesystem::file_size(log_path(folder.path()))};
  for (const auto& text : texts) {
    EXPECT_TRUE(open.append(text));
    sizes.push_back(std::filesystem::file_size(log_path(folder.path())));
  }
  return content(log_path(folder.path()));
}

Texts prefix(const Texts& texts, size_t count) { return {texts.begin(), texts.begin() + static_cast<ptrdiff_t>(count)}; }

TEST(JournalCut, AtEveryByteItKeepsTheWholeRecordsBeforeAndGoesOn) {
  std::vector<size_t> sizes;
  std::string bytes = log_of(kTexts, sizes);
  TempFolder folder;
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    put_content(log_path(folder.path()), bytes.substr(0, cut));
    size_t kept = static_cast<size_t>(std::upper_bound(sizes.begin() + 1, sizes.end(), cut) - sizes.begin()) - 1;
    {
      OpenJournal open(folder.path());
      ASSERT_TRUE(open.journal) << cut << ": " << open.error.message();
      EXPECT_EQ(open.texts(), prefix(kTexts, kept)) << cut;
      EXPECT_EQ(open.torn_bytes, cut < sizes[0] ? cut : cut - sizes[kept]);
      EXPECT_EQ(*open.append("after"), kept + 1);
    }
    OpenJournal again(folder.path());
    EXPECT_EQ(again.records.size(), kept + 1);
    EXPECT_EQ(again.records.back().second, "after");
    EXPECT_EQ(again.torn_bytes, 0u);
  }
}

// A write of several records that came to disk in part: some good ones may lie behind bad ones.
TEST(JournalCut, AWriteThatIsTornInItsMiddleIsCutThere) {
  constexpr uint64_t kId = 7;
  std::string log = journal::encode(journal::FileHead{journal::kLogMark, journal::kVersion, kId, 1});
  std::vector<size_t> ends{log.size()};
  for (uint64_t i = 1; i <= 6; ++i) {  // 1 and 2 were on disk before 3 to 6 were written
    std::string text = std::to_string(i);
    uint64_t place = i <= 2 ? 0 : i - 3;
    log += journal::encode({journal::kRecordMark, 1, i, static_cast<uint32_t>(place), crc32c(text)}, kId) + text;
    ends.push_back(log.size());
  }
  TempFolder folder;
  for (size_t bad = 1; bad <= 6; ++bad)
    for (size_t zeros = 1; ends[bad - 1] + zeros <= ends[bad]; ++zeros) {
      std::string torn = log;
      std::fill_n(torn.begin() + static_cast<ptrdiff_t>(ends[bad] - zeros), zeros, '\0');
      put_content(log_path(folder.path()), torn);
      OpenJournal open(folder.path());
      EXPECT_EQ(open.journal != nullptr, bad >= 3) << bad;
      EXPECT_EQ(open.records.size(), bad - 1);
      bool is_end = bad == 6 && ends[bad - 1] + zeros == ends[bad];  // nothing but zeros is no record, torn or not
      if (open.journal) { EXPECT_EQ(open.torn_bytes, is_end ? 0 : log.size() - ends[bad - 1]); }
    }
}

// Bytes of journals are a record of a journal: what is torn is torn all the same.
TEST(JournalCut, ARecordThatHoldsAnotherJournalIsCutAsAnyOther) {
  std::vector<size_t> sizes;
  std::string other = log_of(Texts(20, "of another journal"), sizes);
  std::string bytes = log_of({"one", other + other}, sizes);
  TempFolder folder;
  put_content(log_path(folder.path()), bytes.substr(0, bytes.size() - 1));
  OpenJournal open(folder.path());
  ASSERT_TRUE(open.journal) << open.error.message();
  EXPECT_EQ(open.texts(), Texts{"one"});
}

TEST(JournalFlip, OfAnyBitIsReportedOrIsInTheLastWrite) {
  std::vector<size_t> sizes;
  std::string bytes = log_of(kTexts, sizes);
  TempFolder folder;
  std::string path = log_path(folder.path());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] ^= static_cast<char>(1 << bit % 8);
    put_content(path, flipped);
    OpenJournal open(folder.path());
    bool in_last = bit / 8 >= sizes[sizes.size() - 2];
    ASSERT_EQ(open.journal != nullptr, in_last) << bit << ": " << open.error.message();
    EXPECT_EQ(open.texts(), prefix(kTexts, open.records.size())) << bit;  // nothing wrong was given out
    if (in_last) {
      EXPECT_EQ(open.records.size(), kTexts.size() - 1);
      EXPECT_EQ(open.torn_bytes, bytes.size() - sizes[sizes.size() - 2]);
      continue;
    }
    size_t record = static_cast<size_t>(std::upper_bound(sizes.begin(), sizes.end(), bit / 8) - sizes.begin());
    size_t at = record == 0 ? 0 : sizes[record - 1];
    EXPECT_NE(open.error.what.find(path + " is damaged at byte " + std::to_string(at) + ": "), std::string::npos) << open.error.what;
    EXPECT_EQ(content(path), flipped);
  }
}

TEST(JournalFlip, OfAnyBitOfASnapshotIsReported) {
  TempFolder folder;
  {
    OpenJournal open(folder.path());
    for (const auto& text : kTexts) ASSERT_TRUE(open.append(text));
    ASSERT_TRUE(save(*open.journal, 4, {"some", "", "state"}));
  }
  std::string path = folder.path() + "/snapshot", bytes = content(path);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] ^= static_cast<char>(1 << bit % 8);
    put_content(path, flipped);
    OpenJournal open(folder.path());
    ASSERT_EQ(open.journal, nullptr) << bit;
    EXPECT_NE(open.error.what.find(path), std::string::npos);
    EXPECT_EQ(open.snapshot, prefix({"some", "", "state"}, open.snapshot.size()));
    EXPECT_TRUE(open.records.empty());
  }
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    put_content(path, bytes.substr(0, cut));
    ASSERT_EQ(OpenJournal(folder.path()).journal, nullptr) << cut;
  }
  put_content(path, bytes + "x");
  EXPECT_EQ(OpenJournal(folder.path()).journal, nullptr);
  put_content(path, bytes);
  EXPECT_EQ(OpenJournal(folder.path()).texts(), Texts{"epsilon"});
}

// Five records, each in a file of its own.
class JournalFiles : public ::testing::Test {
 protected:
  JournalFiles() {
    OpenJournal open(folder_.path(), {.rotate_bytes = 1});
    for (const auto& text : kTexts) EXPECT_TRUE(open.append(text));
  }
  std::string refusal() {
    OpenJournal open(folder_.path());
    EXPECT_EQ(open.journal, nullptr);
    EXPECT_EQ(open.texts(), prefix(kTexts, open.records.size()));
    return open.error.message();
  }
  void remove(uint64_t first) { std::filesystem::remove(log_path(folder_.path(), first)); }
  void snapshot_at(uint64_t at) { ASSERT_TRUE(save(*OpenJournal(folder_.path()).journal, at, {"state"})); }

  TempFolder folder_;
};

TEST_F(JournalFiles, AMissingOneIsReported) {
  std::string third = content(log_path(folder_.path(), 3));
  remove(3);
  EXPECT_NE(refusal().find("records 3 to 3 before it are missing"), std::string::npos) << refusal();
  put_content(log_path(folder_.path(), 3), third);
  remove(1);
  EXPECT_NE(refusal().find("records 1 to 1 before it are missing"), std::string::npos) << refusal();
}

TEST_F(JournalFiles, OnesThatTheSnapshotNeedsAreMissed) {
  snapshot_at(3);
  EXPECT_EQ(OpenJournal(folder_.path()).texts(), (Texts{kTexts[3], kTexts[4]}));
  remove(4);
  EXPECT_NE(refusal().find("records 4 to 4 before it are missing"), std::string::npos) << refusal();
  remove(5);
  EXPECT_NE(refusal().find("is missing"), std::string::npos) << refusal();
}

TEST_F(JournalFiles, OnesThatASnapshotHasReplacedAreRemovedWhateverIsInThem) {
  std::string second = content(log_path(folder_.path(), 2));
  snapshot_at(3);
  put_content(log_path(folder_.path(), 2), second);
  put_content(log_path(folder_.path(), 1), "anything");
  OpenJournal open(folder_.path());
  EXPECT_EQ(open.texts(), (Texts{kTexts[3], kTexts[4]})) << open.error.message();
  EXPECT_FALSE(std::filesystem::exists(log_path(folder_.path(), 1)));
  EXPECT_FALSE(std::filesystem::exists(log_path(folder_.path(), 2)));
}

TEST_F(JournalFiles, ALogThatEndsBeforeTheSnapshotIsReported) {
  snapshot_at(5);
  put_content(log_path(folder_.path(), 5), content(log_path(folder_.path(), 5)).substr(0, kJournalHead));
  EXPECT_NE(refusal().find("records 5 to 5 are missing"), std::string::npos) << refusal();
}

TEST_F(JournalFiles, ATornOneThatIsNotTheLastIsDamaged) {
  std::string path = log_path(folder_.path(), 4), bytes = content(path);
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    put_content(path, bytes.substr(0, cut));
    EXPECT_FALSE(refusal().empty()) << cut;
  }
}

TEST_F(JournalFiles, OfAnotherJournalOrUnderAnothersNameAreReported) {
  TempFolder other;
  {
    OpenJournal open(other.path(), {.rotate_bytes = 1});
    for (const auto& text : kTexts) ASSERT_TRUE(open.append(text));
  }
  std::string path = log_path(folder_.path(), 4), bytes = content(path);
  put_content(path, content(log_path(other.path(), 4)));
  EXPECT_NE(refusal().find("of another journal"), std::string::npos) << refusal();
  put_content(path, content(log_path(folder_.path(), 3)));
  EXPECT_NE(refusal().find("the name of another file"), std::string::npos) << refusal();
}

TEST_F(JournalFiles, OfALaterVersionAreRefused) {
  std::string path = log_path(folder_.path(), 5);
  journal::FileHead head = *journal::decode_file_head(content(path));
  head.version = journal::kVersion + 1;
  put_content(path, journal::encode(head) + "whatever it is");
  OpenJournal open(folder_.path());
  ASSERT_EQ(open.journal, nullptr);
  EXPECT_EQ(open.error.code, std::errc::not_supported);
  EXPECT_NE(open.error.what.find(path + " is of version 2"), std::string::npos) << open.error.what;
}

// The bytes of docs/journal.md's example: lines of an offset and up to sixteen bytes in hexadecimal.
std::string example_of_the_page() {
  std::ifstream page(JOURNAL_PAGE);
  std::string out;
  for (std::string line; std::getline(page, line);) {
    unsigned offset, byte;
    int taken = 0;
    if (std::sscanf(line.c_str(), "    %8x  %n", &offset, &taken) != 1 || taken != 14 || offset != out.size()) continue;
    for (const char* at = line.c_str() + taken; std::sscanf(at, "%2x%n", &byte, &taken) == 1; at += taken)
      out += static_cast<char>(byte);
  }
  return out;
}

TEST(JournalFormat, IsThatOfThePage) {
  TempFolder folder;
  std::string log = journal::encode(journal::FileHead{journal::kLogMark, 1, 0x0807060504030201, 1});
  log += journal::encode({journal::kRecordMark, 3, 1, 0, crc32c("one")}, 0x0807060504030201) + "one";
  log += journal::encode({journal::kRecordMark, 3, 2, 1, crc32c("two")}, 0x0807060504030201) + "two";
  std::string page = example_of_the_page();
  EXPECT_EQ(log, page);
  put_content(log_path(folder.path()), page);
  EXPECT_EQ(OpenJournal(folder.path()).texts(), (Texts{"one", "two"}));
}

}  // namespace
}  // namespace godwit
