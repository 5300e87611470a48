#include "tuplespace/node/rpc.hh"

#include <sys/random.h>

#include <algorithm>

namespace godwit {
namespace {

constexpr size_t kMaxSessions = 4096;
constexpr size_t kMaxRemembered = size_t{64} << 20;  // bytes of answers kept for retries
constexpr auto kSessionRest = std::chrono::minutes(10);

Error error_from(const msgpack::object& object) {
  std::vector<msgpack::object> parts;
  int code = 0;
  std::string what;
  if (!decode(object, parts) || parts.size() != 2 || !decode(parts[0], code) || !decode(parts[1], what))
    return make_error(std::errc::bad_message, "the node answered with a malformed error");
  return Error{std::error_code(code, std::generic_category()), what};
}

Packed pack_response(CallId id, const Result<Packed>& result) {
  Packer packer;
  packer.array(4).add(MessageKind::kResponse).array(2).add(id.session).add(id.sequence);
  if (result) return packer.add(nullptr).add(Raw{*result}).take();
  packer.array(2).add(result.error().code.value()).add(result.error().what);
  return packer.add(nullptr).take();
}

Packed pack_working(CallId id) {
  Packer packer;
  packer.array(2).add(MessageKind::kWorking).array(2).add(id.session).add(id.sequence);
  return packer.take();
}

void send_to(Socket& socket, const std::string& identity, const Packed& body) {
  socket.send({identity, std::string(kProtocol), body});  // refused: the caller retries
}

bool read_id(const msgpack::object& object, CallId& id) {
  std::vector<uint64_t> parts;
  if (!decode(object, parts) || parts.size() < 2) return false;
  id = {parts[0], parts[1]};
  return true;
}

}  // namespace

uint64_t random_u64() {
  uint64_t value = 0;
  GODWIT_CHECK(getrandom(&value, sizeof value, 0) == sizeof value);
  return value;
}

Packed pack_request(CallId id, uint64_t floor, std::string_view method, std::string_view params) {
  Packer packer;
  packer.array(4).add(MessageKind::kRequest);
  packer.array(3).add(id.session).add(id.sequence).add(floor);
  return packer.add(method).add(Raw{params}).take();
}

std::optional<Response> parse_response(const Frames& frames) {
  if (frames.size() != 2 || frames[0] != kProtocol) return std::nullopt;
  auto object = unpack(frames[1]);
  std::vector<msgpack::object> parts;
  int kind = 0;
  Response out;
  if (!object || !decode(object->get(), parts) || parts.size() < 2) return std::nullopt;
  if (!decode(parts[0], kind) || !read_id(parts[1], out.id)) return std::nullopt;
  if (kind == static_cast<int>(MessageKind::kWorking)) return out.working = true, std::move(out);
  if (kind != static_cast<int>(MessageKind::kResponse) || parts.size() != 4) return std::nullopt;
  if (!parts[2].is_nil()) {
    out.answer = error_from(parts[2]);
    return out;
  }
  object->set(parts[3]);  // the zone stays with the handle
  out.answer = std::move(*object);
  return out;
}

struct Reply::State {
  explicit State(Sink s) : sink(std::move(s)) {}
  State(const State&) = delete;
  Sink sink;
  bool answered = false;
  void answer(Result<Packed> result) {
    if (answered) return;
    answered = true;
    auto sink_once = std::move(sink);
    sink_once(std::move(result));
  }
  ~State() { answer(make_error(std::errc::io_error, "the request was dropped without an answer")); }
};

Reply::Reply(Sink sink) : state_(std::make_shared<State>(std::move(sink))) {}
void Reply::send(Packed result) const { state_->answer(std::move(result)); }
void Reply::fail(Error error) const { state_->answer(std::move(error)); }
bool Reply::answered() const { return state_->answered; }
void Reply::finish(Result<void> result) const {
  if (result) done();
  else fail(result.error());
}

struct RpcServer::Request {
  CallId id;
  uint64_t floor;
  std::string_view method;
  msgpack::object params;
};

void RpcServer::serve(std::string_view method, Handler handler, Retry retry) {
  bool fresh = methods_.emplace(std::string(method), Method{std::move(handler), retry}).second;
  GODWIT_CHECK(fresh);
}

// Frames: identity, protocol, body. Whatever is not that is dropped.
void RpcServer::on_message(Socket& socket, Frames frames) {
  if (frames.size() != 3) return;
  if (frames[1] != kProtocol)
    return send_to(socket, frames[0],
                   pack_response({}, make_error(std::errc::protocol_not_supported,
                                                "this node speaks GW1; use a godwit of its version")));
  auto object = unpack(frames[2]);
  std::vector<msgpack::object> parts;
  std::vector<uint64_t> id;
  Request request{};
  int kind = -1;
  if (!object || !decode(object->get(), parts) || parts.size() != 4 || !decode(parts[0], kind) ||
      kind != static_cast<int>(MessageKind::kRequest) || !decode(parts[1], id) || id.size() != 3 ||
      !decode(parts[2], request.method))
    return send_to(socket, frames[0],
                   pack_response({}, make_error(std::errc::bad_message, "malformed request")));
  request.id = {id[0], id[1]};
  request.floor = id[2];
  request.params = parts[3];

  Session& session = sessions_[request.id.session];
  session.used = Loop::Clock::now();
  raise_floor(session, request.floor);
  if (answer_retry(session, socket, frames[0], request)) return;
  auto method = methods_.find(std::string(request.method));
  if (method == methods_.end())
    return send_to(socket, frames[0],
                   pack_response(request.id, make_error(std::errc::function_not_supported,
                                                        "this node has no method '" +
                                                            std::string(request.method.substr(0, 80)) + "'")));
  run(method->second, socket, frames[0], request);
}

// Entries below the floor go; a running one finishes for nobody.
void RpcServer::raise_floor(Session& session, uint64_t floor) {
  if (floor <= session.floor) return;
  session.floor = floor;
  auto last = session.entries.lower_bound(floor);
  for (auto entry = session.entries.begin(); entry != last; ++entry)
    remembered_bytes_ -= entry->second.response.size();
  session.entries.erase(session.entries.begin(), last);
}

bool RpcServer::answer_retry(Session& session, Socket& socket, const std::string& identity,
                             const Request& request) {
  if (request.id.sequence < session.floor) return true;  // a late copy of what the caller gave up
  auto known = session.entries.find(request.id.sequence);
  if (known == session.entries.end()) return false;
  known->second.socket = &socket;
  known->second.identity = identity;
  bool running = known->second.response.empty();
  send_to(socket, identity, running ? pack_working(request.id) : known->second.response);
  return true;
}

void RpcServer::run(Method& method, Socket& socket, const std::string& identity, const Request& request) {
  Key key{request.id.session, request.id.sequence};
  sessions_[key.session].entries[key.sequence] = Entry{&socket, identity, {}};
  forget_old_sessions();
  std::weak_ptr<RpcServer*> self = self_;
  Retry retry = method.retry;
  invoke(method, request.params, Reply([self, key, retry](Result<Packed> result) {
           if (auto server = self.lock()) (*server)->answered(key, retry, std::move(result));
         }));
  tell_working(key);
}

// A caller that hears at once that its request is here does not look for another way to us.
void RpcServer::tell_working(Key key) {
  auto session = sessions_.find(key.session);
  if (session == sessions_.end()) return;
  auto entry = session->second.entries.find(key.sequence);
  if (entry == session->second.entries.end() || !entry->second.response.empty()) return;
  send_to(*entry->second.socket, entry->second.identity, pack_working({key.session, key.sequence}));
}

// The catch is for a handler that lets msgpack's own conversions throw; ours do not.
void RpcServer::invoke(Method& method, const msgpack::object& params, Reply reply) {
  try {
    method.handler(params, reply);
  } catch (const msgpack::type_error&) {
    reply.fail(make_error(std::errc::bad_message, "malformed parameters"));
  }
}

void RpcServer::answered(Key key, Retry retry, Result<Packed> result) {
  auto session = sessions_.find(key.session);
  if (session == sessions_.end()) return;
  auto entry = session->second.entries.find(key.sequence);
  if (entry == session->second.entries.end()) return;
  Packed response = pack_response({key.session, key.sequence}, result);
  send_to(*entry->second.socket, entry->second.identity, response);
  if (retry == Retry::kRepeated) {
    session->second.entries.erase(entry);
  } else {
    remembered_bytes_ += response.size();
    entry->second.response = std::move(response);
  }
}

// Those with a request still running stay. Rarely runs, so a sort of all is cheap enough.
void RpcServer::forget_old_sessions() {
  if (sessions_.size() <= kMaxSessions && remembered_bytes_ <= kMaxRemembered) return;
  auto now = Loop::Clock::now();
  std::vector<std::pair<Loop::Clock::time_point, uint64_t>> idle;
  for (const auto& [id, session] : sessions_) {
    bool running = std::any_of(session.entries.begin(), session.entries.end(),
                               [](const auto& entry) { return entry.second.response.empty(); });
    if (!running) idle.emplace_back(session.used, id);
  }
  std::sort(idle.begin(), idle.end());
  for (size_t i = 0; i < idle.size(); ++i) {
    bool roomy = sessions_.size() <= kMaxSessions / 2 && remembered_bytes_ <= kMaxRemembered / 2;
    if (roomy && now - idle[i].first < kSessionRest) break;
    for (const auto& entry : sessions_[idle[i].second].entries)
      remembered_bytes_ -= entry.second.response.size();
    sessions_.erase(idle[i].second);
  }
}

void RpcServer::call_local(std::string_view method, const Packed& params, AnswerCallback callback) {
  auto found = methods_.find(std::string(method));
  if (found == methods_.end())
    return callback(make_error(std::errc::function_not_supported,
                               "this node has no method '" + std::string(method) + "'"));
  auto object = unpack(params);
  GODWIT_CHECK(object);
  invoke(found->second, object->get(), Reply([callback](Result<Packed> result) {
           callback(result ? unpack(*result) : Answer(result.error()));
         }));
}

}  // namespace godwit
