// A journal with all that it told, and the files of a folder as strings.
#pragma once
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/temp_folder.hh"
#include "tuplespace/journal/format.hh"
#include "tuplespace/journal/journal.hh"
#include "tuplespace/posix/file.hh"

namespace godwit::testing {

inline constexpr size_t kJournalHead = journal::kHead;  // of a file, and of a record

/// What a folder holds, or why it was refused.
struct OpenJournal {
  std::vector<std::string> snapshot;
  std::vector<std::pair<uint64_t, std::string>> records;
  std::vector<Journal::Settled> settled;  // the journal's thread's until it has ended
  Error error;
  uint64_t snapshot_at = 0, torn_bytes = 0;
  std::unique_ptr<Journal> journal;  // null: refused

  explicit OpenJournal(const std::string& folder, const Journal::Options& options = {}) {
    auto on_snapshot = [this](std::string_view record) -> Result<void> {
      snapshot.emplace_back(record);
      return {};
    };
    auto on_record = [this](uint64_t sequence, std::string_view record) -> Result<void> {
      records.emplace_back(sequence, record);
      return {};
    };
    auto opened = Journal::open(folder, options, {on_snapshot, on_record, [this](const auto& s) { settled.push_back(s); }});
    if (!opened) {
      error = opened.error();
      return;
    }
    snapshot_at = opened->snapshot_at;
    torn_bytes = opened->torn_bytes;
    journal = std::move(opened->journal);
  }

  /// Waits for it.
  Result<uint64_t> append(std::string record) {
    auto appended = journal->append(std::move(record));
    if (!appended) return appended.error();
    if (auto durable = journal->wait_durable(*appended, kForever); !durable) return durable.error();
    return appended->sequence();
  }
  std::vector<std::string> texts() const {
    std::vector<std::string> out;
    for (const auto& [sequence, record] : records) out.push_back(record);
    return out;
  }
};

/// A snapshot of these records.
inline Result<void> save(Journal& journal, uint64_t at, const std::vector<std::string>& records) {
  auto snapshot = journal.begin_snapshot(at);
  if (!snapshot) return snapshot.error();
  for (const auto& record : records)
    if (auto added = snapshot->add(record); !added) return added;
  return snapshot->commit();
}

inline std::string content(const std::string& path) { return *read_file(path); }
inline void put_content(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::trunc | std::ios::binary) << bytes;
}
inline std::string log_path(const std::string& folder, uint64_t first = 1) { return folder + "/" + journal::log_name(first); }

}  // namespace godwit::testing
