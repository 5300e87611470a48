// Messages between Departure and Arrival, each opened by its kind (32 bits).
//
//   source                             target
//   kImage  description          ->
//                                <-    kClockRequest
//   kClock  the program's clock  ->
//   kMemory, kLayout ...         ->    (as often as pre-copy needs)
//   kPrecopied                   ->
//                                <-    kBuilt    the copy is complete but for kFinal
//   ---- the program is frozen ----
//   kLayout, kMemory ...         ->
//   kFinal                       ->
//                                <-    kComplete the copy is complete, and stopped
// Instead of any answer the target may send kFailed with a reason.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "migrate/channel.hh"
#include "migrate/dirty.hh"
#include "migrate/image.hh"

namespace godwit::migrate {

enum class Message : uint32_t {
  kImage = 1, kClockRequest, kClock, kMemory, kLayout, kPrecopied, kBuilt, kFinal, kComplete, kFailed,
};

inline constexpr size_t kMemoryMessage = 256 << 10;  // bytes of memory in one message, about

// The clocks of the program when the message was sent, nanoseconds.
struct ProgramClock {
  int64_t monotonic, boottime;
};

struct Built {
  uint32_t foreign_vdso;  // threads must be led out of the source's vdso before they are read
};

struct MemoryPart {
  std::vector<Extent> data, dropped;
  std::string_view bytes;  // of data, in its order
};

std::string tagged(Message kind, std::string_view body = {});
/// The kind, which is taken off the front.
Result<Message> take_kind(std::string_view& message);
/// The next message, which must be of that kind. kFailed becomes an error with the other side's reason.
Result<std::string> expect(Channel& channel, Message kind, Deadline deadline);

template <class T>
std::string_view plain_bytes(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
template <class T>
Result<T> plain_value(std::string_view bytes) {
  T value;
  if (bytes.size() != sizeof value) return make_error(std::errc::bad_message, "message of another size");
  __builtin_memcpy(&value, bytes.data(), sizeof value);
  return value;
}

/// Head of a kMemory message; its bytes are appended by the caller.
std::string memory_head(const std::vector<Extent>& data, const std::vector<Extent>& dropped);
/// Checks ranges and sizes. `body` must outlive the answer.
Result<MemoryPart> decode_memory(std::string_view body);
std::string encode_layout(const std::vector<MappingChange>& changes);
Result<std::vector<MappingChange>> decode_layout(std::string_view body);

/// Sends contents of a process's memory in parts of kMemoryMessage. running: the process may have unmapped
/// some of it since; that is left out, the next look at its layout finds it.
Result<void> send_memory(Channel& channel, const Memory& memory, const Changes& changes, bool running);

}  // namespace godwit::migrate
