// Requests and replies between nodes and from local commands: the serving side. docs/protocol.md has
// the bytes.
//
// What must stay true: a request is known by (session, sequence) and runs once in this process, however
// often it arrives; a retry of a running one is told "working", a retry of an answered one gets the same
// answer, until the session's floor passes it. What a peer sends malformed costs it that request alone.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include "tuplespace/node/transport.hh"
#include "tuplespace/result.hh"
#include "tuplespace/wire.hh"

namespace godwit {

using Answer = Result<msgpack::object_handle>;
using AnswerCallback = std::function<void(Answer)>;

/// The duty to answer one request. Copies share it; the first answer counts. May be kept and used later,
/// in the loop's thread. When the last copy goes unanswered, the caller is told so.
class Reply {
 public:
  using Sink = std::function<void(Result<Packed>)>;
  explicit Reply(Sink sink);
  void send(Packed result) const;
  template <class T>
  void send_value(const T& value) const {
    send(pack(value));
  }
  void done() const { send(pack(nullptr)); }  // nil: it is done
  void fail(Error error) const;
  void finish(Result<void> result) const;
  bool answered() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// `params` lives until the handler returns: copy what must outlast it.
using Handler = std::function<void(const msgpack::object& params, Reply reply)>;

enum class Retry {
  kRemembered,  // the answer is kept for retries: the method changes something
  kRepeated,    // runs again: the method only reads, or its answers are large
};

class RpcServer {
 public:
  /// One handler a method.
  void serve(std::string_view method, Handler handler, Retry retry);
  /// A message from a ROUTER: identity first. Answers go back through `socket`, which must outlive this.
  void on_message(Socket& socket, Frames frames);
  /// From this process itself.
  void call_local(std::string_view method, const Packed& params, AnswerCallback callback);

 private:
  struct Method {
    Handler handler;
    Retry retry;
  };
  struct Key {
    uint64_t session;
    uint64_t sequence;
  };
  struct Entry {
    Socket* socket;
    std::string identity;  // where it came from last
    Packed response;       // empty: still running
  };
  struct Session {
    uint64_t floor = 0;  // below it the caller wants no answer any more
    Loop::Clock::time_point used;
    std::map<uint64_t, Entry> entries;  // by sequence
  };
  struct Request;

  void run(Method& method, Socket& socket, const std::string& identity, const Request& request);
  void answered(Key key, Retry retry, Result<Packed> result);
  void raise_floor(Session& session, uint64_t floor);
  bool answer_retry(Session& session, Socket& socket, const std::string& identity, const Request& request);
  void tell_working(Key key);
  void forget_old_sessions();
  void invoke(Method& method, const msgpack::object& params, Reply reply);

  std::unordered_map<std::string, Method> methods_;
  std::unordered_map<uint64_t, Session> sessions_;
  size_t remembered_bytes_ = 0;
  std::shared_ptr<RpcServer*> self_ = std::make_shared<RpcServer*>(this);  // replies may outlive us
};

// The messages, shared by both sides.
inline constexpr std::string_view kProtocol = "GW1";
enum class MessageKind : int { kRequest = 0, kResponse = 1, kWorking = 3 };

struct CallId {
  uint64_t session = 0;
  uint64_t sequence = 0;
};
Packed pack_request(CallId id, uint64_t floor, std::string_view method, std::string_view params);

struct Response {
  CallId id;
  bool working = false;
  Answer answer = make_error(std::errc::bad_message, "no answer");
};
/// nullopt: not a response that we understand.
std::optional<Response> parse_response(const Frames& frames);

uint64_t random_u64();

}  // namespace godwit
