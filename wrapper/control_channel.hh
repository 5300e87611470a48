// The conversation with a pod's supervisor over pods/NAME/control, an AF_UNIX stream socket of mode 0600.
//
// Frames: u32 length (little endian, of what follows), u8 kind, payload. A frame that is malformed or
// too long ends that conversation and nothing else. Anybody may begin one at any time; a restarted node
// finds its pods again by listing pods/*/control and asking each for its facts.
#pragma once
#include <cstdint>
#include <string>

#include "tuplespace/result.hh"
#include "tuplespace/posix/unique_fd.hh"

namespace godwit::wrapper {

inline constexpr uint32_t kMaxFrame = 8 << 20;

enum class FrameKind : uint8_t {
  // to the supervisor
  kFacts = 'f',       // -> kFactsReply
  kSignal = 's',      // i32 signal, u8 1: to the program's process group
  kAsk = 'a',         // -> kNews, in time; see conversation.hh
  kLeft = 'l',        // the foreground is gone
  kHold = 'h',        // u64 pod; the program stands still: -> kHeld, and nothing is taken or told until kRelease
  kRelease = 'r',
  kTake = 't',        // what kHeld has said of the pod that arrives -> kTaken
  kEnd = 'k',         // SIGKILL for the whole pod
  kDeparted = 'd',    // the pod runs on another host now
  // from the supervisor
  kReady = 'R',       // the program runs; facts. With an arrival: the restoree's channel as SCM_RIGHTS
  kFailed = 'F',      // i32 exit status for `godwit run`, text
  kFactsReply = 'f' | 0x80,
  kNews = 'a' | 0x80,
  kHeld = 'h' | 0x80,
  kTaken = 't' | 0x80,
  // within an Ask, besides kSignal
  kCloseOutput = 'c', // u8 1 or 2: nobody reads this any more; the program gets SIGPIPE
  // within News
  kOutput = 'o',      // stdout bytes
  kError = 'O',       // stderr bytes
  kExit = 'x',        // i32 wait status
  // between a foreground and its node (ferry.hh), besides kAsk and kNews
  kFollow = 'w',      // u64 pod: what is asked is for its supervisor, wherever that is
  kGone = 'D',        // there is no such pod
  kStart = 'S',       // from one that is about to start a pod -> kStart, u64 its number for pods.admit
};

std::string frame(FrameKind kind, const std::string& payload);

/// Takes one whole frame off the front of `buffer`.
/// returns 1 taken, 0 more bytes are needed, -1 malformed.
int take_frame(std::string& buffer, FrameKind* kind, std::string* payload);

/// Connects to a living supervisor. directory: pods/NAME.
Result<UniqueFd> connect_control(const std::string& directory);
/// Listens, with mode 0600, where connect_control of the same words connects to. Replaces what was there.
Result<UniqueFd> listen_in(const std::string& directory, const char* name);
Result<UniqueFd> connect_in(const std::string& directory, const char* name);
/// Blocking; for clients.
Result<void> send_frame(int fd, FrameKind kind, const std::string& payload);
struct Received {
  FrameKind kind;
  std::string payload;
  UniqueFd passed;
};
/// Blocking; for clients that ask one thing. errors: connection_reset when the supervisor is gone.
Result<Received> receive_frame(int fd);

inline std::string pack_i32(int32_t value) { return std::string(reinterpret_cast<const char*>(&value), 4); }
inline std::string pack_u64(uint64_t value) { return std::string(reinterpret_cast<const char*>(&value), 8); }
inline uint64_t unpack_u64(const std::string& payload) {
  uint64_t value = 0;
  if (payload.size() >= 8) __builtin_memcpy(&value, payload.data(), 8);
  return value;
}
inline int32_t unpack_i32(const std::string& payload) {
  int32_t value = 0;
  if (payload.size() >= 4) __builtin_memcpy(&value, payload.data(), 4);
  return value;
}

}  // namespace godwit::wrapper
