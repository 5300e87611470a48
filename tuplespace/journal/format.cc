#include "tuplespace/journal/format.hh"

#include <dirent.h>

#include <cstdio>
#include <cstring>

#include "tuplespace/journal/crc32c.hh"

namespace godwit::journal {
namespace {

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);  // x86-64: little endian
}

template <class T>
T take(std::string_view& from) {
  T value;
  std::memcpy(&value, from.data(), sizeof value);
  from.remove_prefix(sizeof value);
  return value;
}

constexpr size_t kCovered = kHead - 4;  // by the head's checksum, which is its last word

// The id makes foreign records in a record's bytes differ from the journal's own.
uint32_t checksum_of_head(std::string_view head, uint64_t id) {
  std::string salt;
  put(salt, id);
  return crc32c(head.substr(0, kCovered), crc32c(salt));
}

}  // namespace

std::string encode(const FileHead& head) {
  std::string out;
  put(out, head.mark);
  put(out, head.version);
  put(out, head.id);
  put(out, head.sequence);
  put(out, crc32c(out));
  return out;
}

std::optional<FileHead> decode_file_head(std::string_view bytes) {
  if (bytes.size() < kHead) return std::nullopt;
  uint32_t checksum = crc32c(bytes.substr(0, kCovered));
  FileHead head;
  head.mark = take<uint32_t>(bytes);
  head.version = take<uint32_t>(bytes);
  head.id = take<uint64_t>(bytes);
  head.sequence = take<uint64_t>(bytes);
  return take<uint32_t>(bytes) == checksum ? std::optional(head) : std::nullopt;
}

std::string encode(const RecordHead& head, uint64_t id) {
  std::string out;
  put(out, head.mark);
  put(out, head.length);
  put(out, head.sequence);
  put(out, head.place);
  put(out, head.checksum);
  put(out, checksum_of_head(out, id));
  return out;
}

std::optional<RecordHead> decode_record_head(std::string_view bytes, uint64_t id) {
  if (bytes.size() < kHead) return std::nullopt;
  uint32_t checksum = checksum_of_head(bytes, id);
  RecordHead head;
  head.mark = take<uint32_t>(bytes);
  head.length = take<uint32_t>(bytes);
  head.sequence = take<uint64_t>(bytes);
  head.place = take<uint32_t>(bytes);
  head.checksum = take<uint32_t>(bytes);
  return take<uint32_t>(bytes) == checksum ? std::optional(head) : std::nullopt;
}

std::string log_name(uint64_t first) {
  char name[32];
  std::snprintf(name, sizeof name, "wal.%020llu", static_cast<unsigned long long>(first));
  return name;
}

std::map<uint64_t, std::string> log_files(const std::string& folder) {
  std::map<uint64_t, std::string> files;
  DIR* dir = opendir(folder.c_str());
  if (!dir) return files;
  while (const dirent* entry = readdir(dir)) {
    unsigned long long first = 0;
    if (std::sscanf(entry->d_name, "wal.%20llu", &first) == 1 && log_name(first) == entry->d_name)
      files[first] = folder + "/" + entry->d_name;
  }
  closedir(dir);
  return files;
}

std::string snapshot_path(const std::string& folder) { return folder + "/snapshot"; }
std::string fresh_snapshot_path(const std::string& folder) { return folder + "/snapshot.new"; }

}  // namespace godwit::journal
