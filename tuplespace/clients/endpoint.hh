// The socket that clients come to: a ZeroMQ ROUTER under CURVE with the node's key for clients, in a context of its own, whose
// ZAP handler admits the keys that it is told of. Belongs to one thread.
//
// What must stay true: nothing here waits but wait(). What a client sends is in memory as one frame at most of kLargestMessage,
// and kQueued of them; what is sent to one that does not read, kQueued messages.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tuplespace/node/home.hh"

namespace godwit::clients {

class Endpoint {
 public:
  /// Whether that key, Z85, of somebody at that address may come in.
  using Admits = std::function<bool(std::string_view key, std::string_view from)>;
  /// errors  address_in_use, address_not_available.
  static Result<std::unique_ptr<Endpoint>> open(const CommunityKey& key, const std::string& address, Admits admits);
  ~Endpoint();
  Endpoint(const Endpoint&) = delete;

  /// A:P as bound.
  const std::string& address() const { return address_; }

  /// Waits until a message is here, one of the descriptors can be read, or the time is over.
  /// returns  whether it is one of the descriptors.
  bool wait(std::span<const int> fds, std::chrono::milliseconds time);
  /// Answers all handshakes that wait for it.
  void admit();

  struct Incoming {
    std::string route;
    std::string key;       // the client's, Z85
    std::string protocol;  // the first frame
    std::string body;      // the second
    bool is_whole = false; // there were two frames
  };
  /// The next message, if one is here.
  bool receive(Incoming& incoming);

  enum class Sent { kYes, kFull, kGone };
  Sent send(const std::string& route, std::string_view body);

  static constexpr int kQueued = 32;

 private:
  Endpoint() = default;
  Result<void> start(const CommunityKey& key, const std::string& address);
  static bool receive_frame(void* socket, std::string& frame, std::string* key, bool* more);

  Admits admits_;
  std::string address_;
  void* context_ = nullptr;
  void* router_ = nullptr;
  void* zap_ = nullptr;
};

}  // namespace godwit::clients
