#include "tuplespace/space/tuple_lines.hh"

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "tuplespace/codec.hh"
#include "tuplespace/text.hh"
#include "tuplespace/wire.hh"

namespace godwit {
namespace {

using Take = std::function<Result<void>(const Tuple&)>;

Error at(const char* what, uint64_t number, const Error& error) {
  return Error{error.code, what + std::string(" ") + std::to_string(number) + ": " + error.what +
                               "; mend it and import from there on"};
}

Error not_tuples() {
  return make_error(std::errc::bad_message, "stdin holds no tuples; they are msgpack, JSON lines or text lines, as godwit help import says");
}

Result<void> read_to_its_end(FILE* from) {
  if (std::ferror(from)) return make_error(std::errc::io_error, "the tuples cannot be read; see where stdin comes from");
  return {};
}

Result<void> read_lines(FILE* from, Result<Tuple> (*parse)(std::string_view), const Take& take) {
  char* line = nullptr;
  size_t room = 0;
  std::unique_ptr<char*, void (*)(char**)> owner(&line, [](char** p) { std::free(*p); });
  uint64_t number = 0;
  for (ssize_t length; (length = getline(&line, &room, from)) >= 0;) {
    ++number;
    std::string_view text(line, static_cast<size_t>(length));
    if (text.find_first_not_of(" \t\r\n") == text.npos) continue;
    while (text.ends_with('\n') || text.ends_with('\r')) text.remove_suffix(1);
    auto tuple = parse(text);
    if (!tuple) return at("line", number, tuple.error());
    if (auto done = take(*tuple); !done) return done;
  }
  return read_to_its_end(from);
}

// Reads at least half as much again as was there, so that a tuple of any length is looked at few times.
bool read_more(FILE* from, std::string& bytes) {
  constexpr size_t kLeast = 1 << 16;
  size_t old = bytes.size();
  bytes.resize(old + std::max(kLeast, old / 2));
  size_t n = std::fread(bytes.data() + old, 1, bytes.size() - old, from);
  bytes.resize(old + n);
  return n > 0;
}

Result<void> read_packed(FILE* from, const Take& take) {
  std::string bytes;
  size_t start = 0;
  for (uint64_t number = 1;; ++number) {
    auto length = first_object(std::string_view(bytes).substr(start));
    while (length && !*length) {
      bytes.erase(0, start);
      start = 0;
      if (!read_more(from, bytes)) {
        if (bytes.empty() || std::ferror(from)) return read_to_its_end(from);
        return at("tuple", number, make_error(std::errc::bad_message, "it ends in the middle; it is cut off"));
      }
      length = first_object(bytes);
    }
    if (!length) return at("tuple", number, length.error());
    auto tuple = decode_tuple(std::string_view(bytes).substr(start, **length));
    if (!tuple) return at("tuple", number, tuple.error());
    if (auto done = take(*tuple); !done) return done;
    start += **length;
  }
}

}  // namespace

bool print_line(std::string line, FILE* to) {
  line += '\n';
  return std::fwrite(line.data(), 1, line.size(), to) == line.size();
}

bool print_packed(const Tuple& tuple, FILE* to) {
  std::string bytes = encode(tuple);
  return std::fwrite(bytes.data(), 1, bytes.size(), to) == bytes.size();
}

Result<void> read_tuples(FILE* from, const Take& take) {
  int first = std::getc(from);
  if (first == 0xEF && !(std::getc(from) == 0xBB && std::getc(from) == 0xBF)) return not_tuples();  // else a byte order mark
  if (first == 0xEF) first = std::getc(from);
  while (first == ' ' || first == '\n' || first == '\r' || first == '\t') first = std::getc(from);
  if (first == EOF) return read_to_its_end(from);
  std::ungetc(first, from);
  if (first == '[') return read_lines(from, parse_json, take);
  if (first == '(') return read_lines(from, parse_tuple, take);
  return read_packed(from, take);
}

}  // namespace godwit
