// What the log of durable spaces says of a transaction: its changes, one after the other.
//
//     put     1  SPACE AGE DUE LENGTH  and LENGTH bytes: the tuple's encoding (encoding.hh); DUE is on the real-time clock, in ns; 0: never
//     take    2  SPACE AGE             the tuple that was put so: a space has no two of an age at a time
//     create  3  SPACE CAPACITY BLOCKS LENGTH  and its name; what had that name before is no more
//     drop    4  SPACE
// The kind is a byte, every other number a 64-bit little-endian integer. SPACE is a number that no other space ever has.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "tuplespace/space_facts.hh"

namespace godwit::store {

/// A record in the making.
class Record {
 public:
  /// due: on the host's monotonic clock; 0: never.
  void put(uint64_t space, uint64_t age, uint64_t due, std::string_view encoded);
  /// real_due: on the real-time clock.
  void put_until(uint64_t space, uint64_t age, uint64_t real_due, std::string_view encoded);
  void take(uint64_t space, uint64_t age);
  void create(uint64_t space, std::string_view name, const SpaceOptions& options);
  void drop(uint64_t space);

  std::string take_bytes() { return std::move(bytes_); }
  size_t size() const { return bytes_.size(); }

 private:
  void add(uint8_t kind, std::initializer_list<uint64_t> numbers, std::string_view text = {});
  std::string bytes_;
};

struct Change {
  enum Kind : uint8_t { kPut = 1, kTake = 2, kCreate = 3, kDrop = 4 };
  Kind kind;
  uint64_t space = 0, age = 0;
  uint64_t due = 0;          // of a put: on the real-time clock
  std::string_view text{};   // of a put: the tuple's encoding; of a create: the name. Borrowed from the record
  SpaceOptions options{};    // of a create
};
/// Calls f with each. False: these bytes are no record, and f was called with those before what is wrong.
bool for_each_change(std::string_view record, const std::function<void(const Change&)>& f);

/// From one clock to the other, as both are now.
uint64_t real_time_of(uint64_t monotonic);
uint64_t monotonic_of(uint64_t real_time);

}  // namespace godwit::store
