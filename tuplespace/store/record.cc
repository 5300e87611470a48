#include "tuplespace/store/record.hh"

#include <time.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "tuplespace/shared/spin.hh"

namespace godwit::store {
namespace {

static_assert(std::endian::native == std::endian::little);

uint64_t real_time() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// What is long ago on one clock may be before the other began.
uint64_t shifted(uint64_t time, uint64_t from, uint64_t to) {
  if (time >= from) return to + std::min(time - from, ~uint64_t{0} - 1 - to);
  return to > from - time ? to - (from - time) : 1;
}

// Takes numbers off the front. False: there are not so many.
template <size_t N>
bool read(std::string_view& from, std::array<uint64_t, N>& to) {
  if (from.size() < sizeof to) return false;
  std::memcpy(to.data(), from.data(), sizeof to);
  from.remove_prefix(sizeof to);
  return true;
}

bool read_text(std::string_view& from, uint64_t length, std::string_view& to) {
  if (from.size() < length) return false;
  to = from.substr(0, length);
  from.remove_prefix(length);
  return true;
}

bool read_change(std::string_view& from, Change& to) {
  to = {static_cast<Change::Kind>(from[0])};
  from.remove_prefix(1);
  switch (to.kind) {
    case Change::kPut: {
      std::array<uint64_t, 4> numbers;
      if (!read(from, numbers)) return false;
      to.space = numbers[0], to.age = numbers[1], to.due = numbers[2];
      return read_text(from, numbers[3], to.text);
    }
    case Change::kTake: {
      std::array<uint64_t, 2> numbers;
      if (!read(from, numbers)) return false;
      to.space = numbers[0], to.age = numbers[1];
      return true;
    }
    case Change::kCreate: {
      std::array<uint64_t, 4> numbers;
      if (!read(from, numbers)) return false;
      to.space = numbers[0];
      to.options = {numbers[1], numbers[2] != 0, true};
      return read_text(from, numbers[3], to.text);
    }
    case Change::kDrop: {
      std::array<uint64_t, 1> numbers;
      if (!read(from, numbers)) return false;
      to.space = numbers[0];
      return true;
    }
  }
  return false;
}

}  // namespace

void Record::add(uint8_t kind, std::initializer_list<uint64_t> numbers, std::string_view text) {
  bytes_.reserve(bytes_.size() + 1 + numbers.size() * sizeof(uint64_t) + text.size());
  bytes_ += static_cast<char>(kind);
  bytes_.append(reinterpret_cast<const char*>(numbers.begin()), numbers.size() * sizeof(uint64_t));
  bytes_ += text;
}

void Record::put(uint64_t space, uint64_t age, uint64_t due, std::string_view encoded) {
  put_until(space, age, due ? real_time_of(due) : 0, encoded);
}
void Record::put_until(uint64_t space, uint64_t age, uint64_t real_due, std::string_view encoded) {
  add(Change::kPut, {space, age, real_due, encoded.size()}, encoded);
}
void Record::take(uint64_t space, uint64_t age) { add(Change::kTake, {space, age}); }
void Record::create(uint64_t space, std::string_view name, const SpaceOptions& options) {
  add(Change::kCreate, {space, options.capacity, options.blocks_when_full, name.size()}, name);
}
void Record::drop(uint64_t space) { add(Change::kDrop, {space}); }

bool for_each_change(std::string_view record, const std::function<void(const Change&)>& f) {
  for (Change change; !record.empty(); f(change))
    if (!read_change(record, change)) return false;
  return true;
}

uint64_t real_time_of(uint64_t monotonic) { return shifted(monotonic, shared::monotonic_ns(), real_time()); }
uint64_t monotonic_of(uint64_t real) { return shifted(real, real_time(), shared::monotonic_ns()); }

}  // namespace godwit::store
