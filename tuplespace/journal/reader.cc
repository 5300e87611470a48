#include "tuplespace/journal/reader.hh"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "tuplespace/journal/crc32c.hh"

namespace godwit::journal {
namespace {

constexpr size_t kBuffer = size_t{256} << 10;

bool is_zeros(std::string_view bytes) { return bytes.find_first_not_of('\0') == std::string_view::npos; }

}  // namespace

Error damaged(const std::string& path, uint64_t at, const std::string& how) {
  return make_error(std::errc::io_error, path + " is damaged at byte " + std::to_string(at) + ": " + how +
                                             "; restore the folder from a copy");
}

Result<Reader> Reader::open(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  if (!file.valid() || fstat(file.get(), &status) != 0) return errno_error("reading " + path);
  return Reader(path, std::move(file), static_cast<uint64_t>(status.st_size));
}

Result<std::optional<FileHead>> Reader::read_head(uint32_t mark) {
  auto bytes = read(0, std::min<uint64_t>(kHead, size_));
  if (!bytes) return bytes.error();
  auto head = decode_file_head(*bytes);
  if (!head) return head;
  if (head->mark != mark) return damaged(path_, 0, "it is a file of another kind");
  if (head->version != kVersion)
    return make_error(std::errc::not_supported, path_ + " is of version " + std::to_string(head->version) +
                                                    "; this program reads version " + std::to_string(kVersion));
  id_ = head->id;
  offset_ = kHead;
  return head;
}

Result<Reader::Found> Reader::next() {
  if (offset_ == size_) return Found::kEnd;
  auto head = read(offset_, std::min<uint64_t>(kHead, size_ - offset_));
  if (!head) return head.error();
  auto record = decode_record_head(*head, id_);
  if (!record && is_zeros(*head)) {
    auto ends = has_zeros_only();
    if (!ends) return ends.error();
    return *ends ? Found::kEnd : Found::kBad;
  }
  if (!record || record->length > size_ - offset_ - kHead) return Found::kBad;
  auto bytes = read(offset_ + kHead, record->length);
  if (!bytes) return bytes.error();
  if (crc32c(*bytes) != record->checksum) return Found::kBad;
  record_ = *record;
  bytes_ = *bytes;
  offset_ += kHead + record->length;
  return Found::kRecord;
}

// From offset() on.
Result<bool> Reader::has_zeros_only() {
  for (uint64_t at = offset_; at < size_;) {
    auto window = read(at, std::min<uint64_t>(kBuffer, size_ - at));
    if (!window) return window.error();
    if (!is_zeros(*window)) return false;
    at += window->size();
  }
  return true;
}

Result<bool> Reader::was_written_after(uint64_t sequence) {
  char mark[sizeof kRecordMark];
  std::memcpy(mark, &kRecordMark, sizeof mark);
  for (uint64_t at = offset_ + 1; at + kHead <= size_;) {
    auto window = read(at, std::min<uint64_t>(kBuffer, size_ - at));
    if (!window) return window.error();
    size_t found = window->find(std::string_view(mark, sizeof mark));
    if (found == std::string_view::npos) {
      at += window->size() - sizeof mark + 1;
      continue;
    }
    if (found + kHead > window->size()) {
      at += found;
      continue;
    }
    auto head = decode_record_head(window->substr(found), id_);
    if (head && head->sequence > head->place && head->first_of_write() > sequence) return true;
    at += found + 1;
  }
  return false;
}

// A large record takes memory for itself alone, and only until the next one is read.
Result<std::string_view> Reader::read(uint64_t at, uint64_t length) {
  if (at < buffer_at_ || at + length > buffer_at_ + buffered_) {
    size_t wanted = std::min(std::max<uint64_t>(length, kBuffer), size_ - at);
    if (wanted <= kBuffer && buffer_.size() > kBuffer) buffer_ = std::string();
    if (buffer_.size() < wanted) buffer_.resize(wanted);
    buffer_at_ = at;
    buffered_ = 0;
    while (buffered_ < wanted) {
      ssize_t got = pread(file_.get(), buffer_.data() + buffered_, wanted - buffered_, static_cast<off_t>(at + buffered_));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return errno_error("reading " + path_);
      if (got == 0) return make_error(std::errc::io_error, "reading " + path_ + ", which has become shorter");
      buffered_ += static_cast<size_t>(got);
    }
  }
  return std::string_view(buffer_).substr(at - buffer_at_, length);
}

}  // namespace godwit::journal
