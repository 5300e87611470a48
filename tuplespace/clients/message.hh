// What clients and the node say to each other (docs/protocol.md, "The protocol of clients"): read strictly, and written.
//
// What must stay true: a message is read as a whole before anything in it is done; reading costs no more memory than a small
// multiple of its bytes.
#pragma once
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/space_facts.hh"
#include "tuplespace/template.hh"
#include "tuplespace/tuple.hh"
#include "tuplespace/wire.hh"

namespace godwit::clients {

inline constexpr std::string_view kProtocol = "GC1";
inline constexpr size_t kSessionBytes = 16;
inline constexpr int64_t kLargestMessage = int64_t{16} << 20;  // bytes of a frame from a client
inline constexpr uint32_t kMostRequests = 65536;               // in a message
inline constexpr uint32_t kLongestList = 4096;                 // in a request; a tuple has no more fields
inline constexpr uint32_t kMostElements = 1 << 20;             // of all lists of a message

enum class Op {
  kOut, kIn, kRd, kCount, kGot, kUnique, kSwap, kLease, kAcknowledge, kRelease, kExtend, kAll, kCollect, kCopyCollect,
  kWatch, kNext, kUnwatch, kCancel, kBegin, kWithin, kCommit, kRollBack, kClose, kCreate, kDrop, kSpaces, kEnd
};

using Milliseconds = std::chrono::milliseconds;

/// What of it an operation has is in the table of message.cc. Texts and tuples are borrowed from the message.
struct Request {
  Op op = Op::kEnd;
  std::string_view space, to;
  std::span<const TupleView> tuples;
  std::vector<Template> wanted;
  std::optional<Milliseconds> wait;  // nullopt: without end
  std::optional<Milliseconds> time;  // nullopt: for good
  std::vector<uint64_t> numbers;     // of a delivery, watch, transaction or request
  SpaceOptions options;
  std::unique_ptr<Request> within;

  uint64_t number() const { return numbers.front(); }
};

struct Message {
  std::string session;
  uint64_t floor = 0, first = 0;
  std::vector<Request> requests;
  msgpack::object_handle owner;  // of what is borrowed, but for texts
};

/// Texts are borrowed from the bytes. errors  bad_message.
Result<Message> read(std::string_view bytes);

/// ERROR and RESULT of an answer, one after the other.
using Body = Packed;
Body done(const Packed& result);
Body done(bool result);
Body done(std::nullptr_t);
Body failed(const Error& error);

/// A message to a client, in the making.
class Reply {
 public:
  Reply(std::string_view session, uint64_t incarnation) : session_(session), incarnation_(incarnation) {}
  void add(uint64_t number, const Body& body);
  bool is_empty() const { return count_ == 0; }
  size_t size() const { return answers_.bytes().size(); }
  /// The next message begins.
  Packed take();

 private:
  std::string_view session_;
  uint64_t incarnation_;
  Packer answers_;
  size_t count_ = 0;
};
Packed over(std::string_view session, uint64_t incarnation, const Error& error);

}  // namespace godwit::clients
