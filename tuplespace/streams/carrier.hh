// Carriers of stream bytes between hosts: one TCP connection to each other host for what this host sends.
//
// A carrier may break at any moment and loses what was in it. Nothing here repairs that: after it is up again
// its user is told, and says anew where every stream stands (far.hh). So frames need no acknowledgement here.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/node/loop.hh"
#include "tuplespace/posix/unique_fd.hh"

namespace godwit {

enum class FrameType : uint8_t {
  kOpen = 1,      // make the connection at its listener; payload: OpenPayload
  kAsk = 2,       // how far have you received? `value`: pod of the end that is asked for
  kPosition = 3,  // I have received up to `offset`, consumed up to `value`
  kData = 4,      // bytes at `offset`
  kConsumed = 5,  // the reader has consumed up to `offset`
  kFinish = 6,    // nothing comes after `offset`
  kReset = 7,     // the sender's end was reset
  kClosed = 8,    // the sender's end is closed, after `offset`
  kFreed = 9,     // answer to kClosed: forget it
  kUnknown = 10,  // answer to kAsk: no such connection here
};

/// 40 bytes, little endian, then `length` bytes of payload.
struct FrameHeader {
  uint32_t length;      // <= kMaxPayload
  FrameType type;
  uint8_t ring;         // 0: c>s, 1: s>c
  uint16_t restart;     // kPosition: send again from here, whatever you believe
  uint64_t connection;
  uint64_t offset;      // in the stream of `ring`
  uint64_t value;
  uint32_t from_epoch;  // of the pod whose end the sender has
  uint32_t to_epoch;    // of the other end's pod, as the sender knows it
};
static_assert(sizeof(FrameHeader) == 40);
inline constexpr uint32_t kMaxPayload = 64 << 10;

/// Something with bytes to send. Asked while the carrier has room.
class FrameSource {
 public:
  virtual ~FrameSource() = default;
  /// Fills a data frame of at most kMaxPayload: the header, and up to two pieces of a ring, whose bytes stay
  /// until their reader has consumed them. returns false if there is nothing to send.
  virtual bool next(FrameHeader* header, std::string_view parts[2]) = 0;
};

class Carrier {
 public:
  /// up: the connection is there, say where every stream stands. down: it broke; a new one is needed.
  Carrier(Loop& loop, std::function<void()> up, std::function<void()> down);
  ~Carrier();

  void connected(UniqueFd socket);
  bool is_up() const { return socket_.valid(); }
  /// Sends a frame that has no bytes of a ring. Dropped while the carrier is down.
  void send(const FrameHeader& header, std::string_view payload = {});
  /// `source` has something to send. It is forgotten when it says that it has not, and by forget().
  void activate(FrameSource& source);
  void forget(FrameSource& source);
  /// Writes what there is. Called by itself when the socket has room again.
  void pump();

 private:
  struct Batch;
  bool flush();
  void on_event(uint32_t events);
  void broken();

  Loop& loop_;
  std::function<void()> up_, down_;
  UniqueFd socket_;
  uint64_t prepare_id_;
  std::string pending_;       // written before anything else
  size_t written_ = 0;        // of pending_
  bool wants_room_ = false;   // the kernel's buffer is full
  std::vector<FrameSource*> active_;
};

/// The receiving side of another host's carrier.
class CarrierReader {
 public:
  using OnFrame = std::function<void(const FrameHeader&, std::string_view payload)>;
  CarrierReader(Loop& loop, UniqueFd socket, OnFrame on_frame, std::function<void()> on_end);
  ~CarrierReader();

 private:
  void on_event();
  bool parse();

  Loop& loop_;
  UniqueFd socket_;
  OnFrame on_frame_;
  std::function<void()> on_end_;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;  // unparsed bytes of buffer_
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace godwit
