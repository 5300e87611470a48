// The bytes of a journal's files. docs/journal.md has the grammar and a worked example.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace godwit::journal {

inline constexpr uint32_t kLogMark = 0x4c4a5747;       // "GWJL", opens a log file
inline constexpr uint32_t kSnapshotMark = 0x534a5747;  // "GWJS", opens a snapshot
inline constexpr uint32_t kRecordMark = 0x524a5747;    // "GWJR"
inline constexpr uint32_t kEndMark = 0x454a5747;       // "GWJE", ends a snapshot
inline constexpr uint32_t kVersion = 1;
inline constexpr size_t kHead = 28;  // bytes of either head

struct FileHead {
  uint32_t mark = kLogMark;
  uint32_t version = kVersion;
  uint64_t id = 0;        // the journal's; in the checksum of every record's head
  uint64_t sequence = 0;  // of a log file's first record; of the last record that a snapshot stands for
};
std::string encode(const FileHead& head);
/// Of the first kHead bytes. nullopt: its checksum is wrong. Whether mark and version are known is not asked.
std::optional<FileHead> decode_file_head(std::string_view bytes);

struct RecordHead {
  uint32_t mark = kRecordMark;
  uint32_t length = 0;    // bytes behind the head
  uint64_t sequence = 0;  // of a snapshot's records: 1, 2 and so on
  uint32_t place = 0;     // how many records stand before it in the same write: all older ones were on disk then
  uint32_t checksum = 0;  // crc32c of the bytes

  uint64_t first_of_write() const { return sequence - place; }
};
std::string encode(const RecordHead& head, uint64_t id);
std::optional<RecordHead> decode_record_head(std::string_view bytes, uint64_t id);

/// Its name in the folder.
std::string log_name(uint64_t first);
/// The paths of the folder's log files by the sequence of their first record, which their name says.
std::map<uint64_t, std::string> log_files(const std::string& folder);
std::string snapshot_path(const std::string& folder);
/// Where a snapshot is written before it is one.
std::string fresh_snapshot_path(const std::string& folder);

}  // namespace godwit::journal
