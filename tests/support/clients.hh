// Clients of a server of spaces, raw enough for a test to lose, repeat and reorder their messages; and that server, which the test
// may kill.
#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include <chrono>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/support/segment.hh"
#include "tests/support/temp_folder.hh"
#include "tuplespace/clients/message.hh"
#include "tuplespace/clients/registry.hh"
#include "tuplespace/node/transport.hh"
#include "tuplespace/objects.hh"
#include "tuplespace/posix/file.hh"

namespace godwit::testing {

/// A process that serves a segment.
class ClientsServer {
 public:
  ClientsServer() : home_(Home::open_at(folder_.path() + "/home").value()) {}
  ~ClientsServer() { kill(); }

  /// fault: as GODWIT_FAULT.
  void start(const std::string& fault = {}) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    child_ = fork();
    if (child_ == 0) {
      setenv("GODWIT_FAULT", fault.c_str(), 1);
      dup2(ends[1], 1);
      execl(CLIENTS_SERVER, CLIENTS_SERVER, home_.path().c_str(), segment.name().c_str(), address_.c_str(), nullptr);
      _exit(127);
    }
    close(ends[1]);
    std::string said;
    for (char c; read(ends[0], &c, 1) == 1 && c != '\n';) said += c;
    close(ends[0]);
    ASSERT_FALSE(said.empty()) << "the server does not start";
    address_ = said;
  }
  void kill() {
    if (child_ > 0) ::kill(child_, SIGKILL), waitpid(child_, nullptr, 0);
    child_ = 0;
  }
  /// Whether it has ended by itself, of a fault.
  bool has_ended() {
    if (child_ <= 0 || waitpid(child_, nullptr, WNOHANG) != child_) return false;
    child_ = 0;
    return true;
  }
  const std::string& address() const { return address_; }
  const Home& home() const { return home_; }

  CommunityKey make_client(const std::string& name, clients::Client client = everything()) {
    CommunityKey key = make_key_pair();
    client.key = key.public_key;
    EXPECT_TRUE(home_.folder(clients::kFolder).has_value());
    EXPECT_TRUE(replace_file(clients::file_of(home_, name), clients::to_text(client), Durable::kNo).has_value());
    return key;
  }
  static clients::Client everything() {
    clients::Client client;
    client.rights["*"] = clients::kRead | clients::kTake | clients::kPut;
    client.manages = true;
    return client;
  }

  TestSegment segment{256ull << 20};

 private:
  test::TempFolder folder_;
  Home home_;
  pid_t child_ = 0;
  std::string address_ = "127.0.0.1:0";
};

/// An answer: an errno and nil, or 0 and what it is.
struct Answered {
  int code = 0;
  Packed result;
};

class RawClient {
 public:
  RawClient(ClientsServer& server, CommunityKey key) : server_(server), key_(std::move(key)), server_key_(server.home().clients_key().value()) {
    std::random_device random;
    for (char& c : session_) c = static_cast<char>(random());
    connect();
  }
  ~RawClient() { close(); }
  RawClient(const RawClient&) = delete;

  void connect() {
    close();
    dealer_ = zmq_socket(context(), ZMQ_DEALER);
    int zero = 0, retry = 10;
    zmq_setsockopt(dealer_, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(dealer_, ZMQ_RECONNECT_IVL, &retry, sizeof retry);
    zmq_setsockopt(dealer_, ZMQ_CURVE_SERVERKEY, server_key_.public_key.data(), 40);
    zmq_setsockopt(dealer_, ZMQ_CURVE_PUBLICKEY, key_.public_key.data(), 40);
    zmq_setsockopt(dealer_, ZMQ_CURVE_SECRETKEY, key_.secret_key.data(), 40);
    ASSERT_EQ(zmq_connect(dealer_, ("tcp://" + server_.address()).c_str()), 0);
  }
  void close() {
    if (dealer_) zmq_close(std::exchange(dealer_, nullptr));
  }

  /// Numbers the requests, which are encoded. Returns the message that has them.
  Packed begin(const std::vector<Packed>& requests) {
    uint64_t first = next_;
    for (const Packed& request : requests) open_[next_++] = request;
    return message(first, requests);
  }
  Packed message(uint64_t first, const std::vector<Packed>& requests) const {
    Packer packer;
    packer.array(4).add(Bin{session_}).add(floor_).add(first).array(requests.size());
    for (const Packed& request : requests) packer.add(Raw{request});
    return packer.take();
  }
  void send(const Packed& message, std::string_view protocol = clients::kProtocol) {
    (void)(zmq_send(dealer_, protocol.data(), protocol.size(), ZMQ_DONTWAIT | ZMQ_SNDMORE) >= 0 &&
           zmq_send(dealer_, message.data(), message.size(), ZMQ_DONTWAIT));
  }
  /// All that has no answer, over a new connection.
  void resend() {
    connect();
    for (const auto& [number, request] : open_) send(message(number, {request}));
    if (open_.empty()) send(message(next_, {}));
  }
  /// Takes one message, if one comes in that time.
  bool hear(int milliseconds) {
    zmq_pollitem_t item{dealer_, 0, ZMQ_POLLIN, 0};
    if (zmq_poll(&item, 1, milliseconds) <= 0) return false;
    receive_frame();
    std::string body = receive_frame();
    auto object = unpack(body);
    std::vector<msgpack::object> parts, answers;
    EXPECT_TRUE(object && decode(object->get(), parts) && parts.size() >= 3);
    uint64_t incarnation = 0;
    EXPECT_TRUE(decode(parts[1], incarnation));
    if (parts[2].is_nil()) return over_ = code_of(parts[3]), true;
    bool restarted = std::exchange(incarnation_, incarnation) != incarnation && heard_;
    heard_ = true;
    EXPECT_TRUE(decode(parts[2], answers));
    for (const auto& one : answers) take_answer(one);
    floor_ = open_.empty() ? next_ : open_.begin()->first;
    if (restarted) resend();
    return true;
  }
  Answered answer(uint64_t number) {
    while (!answers_.contains(number) && !over_)
      if (!hear(500)) resend();
    return answers_[number];
  }
  Answered ask(const Packed& request) {
    uint64_t number = next_;
    send(begin({request}));
    return answer(number);
  }
  const std::map<uint64_t, Packed>& open() const { return open_; }
  const std::map<uint64_t, Answered>& answers() const { return answers_; }
  /// How often the node has answered it.
  int told(uint64_t number) const { return told_.contains(number) ? told_.at(number) : 0; }
  uint64_t next() const { return next_; }
  std::optional<int> over() const { return over_; }

 private:
  static void* context() {
    static void* one = zmq_ctx_new();  // never terminated: that waits for sockets whose handshake was refused
    return one;
  }
  std::string receive_frame() {
    zmq_msg_t frame;
    zmq_msg_init(&frame);
    zmq_msg_recv(&frame, dealer_, 0);
    std::string bytes(static_cast<const char*>(zmq_msg_data(&frame)), zmq_msg_size(&frame));
    zmq_msg_close(&frame);
    return bytes;
  }
  static int code_of(const msgpack::object& error) {
    std::vector<msgpack::object> parts;
    int code = 0;
    EXPECT_TRUE(decode(error, parts) && decode(parts[0], code));
    return code;
  }
  void take_answer(const msgpack::object& answer) {
    std::array<msgpack::object, 3> parts;
    uint64_t number = 0;
    ASSERT_TRUE(decode(answer, parts) && decode(parts[0], number));
    Answered said{parts[1].is_nil() ? 0 : code_of(parts[1]), pack(parts[2])};
    ++told_[number];
    if (open_.erase(number)) answers_[number] = said;
  }

  ClientsServer& server_;
  CommunityKey key_, server_key_;
  std::string session_ = std::string(clients::kSessionBytes, 0);
  uint64_t floor_ = 1, next_ = 1, incarnation_ = 0;
  bool heard_ = false;
  std::map<uint64_t, Packed> open_;
  std::map<uint64_t, Answered> answers_;
  std::map<uint64_t, int> told_;
  std::optional<int> over_;
  void* dealer_ = nullptr;
};

/// ["NAME", parameters...]
template <class... T>
Packed request(const char* name, const T&... parameters) {
  Packer packer;
  packer.array(1 + sizeof...(T)).add(name);
  (packer.add(parameters), ...);
  return packer.take();
}
inline Raw raw(const Packed& packed) { return {packed}; }
inline Packed packed(std::initializer_list<Tuple> tuples) {
  Packer packer;
  packer.array(tuples.size());
  for (const Tuple& tuple : tuples) packer.add(Raw{encode(tuple)});
  return packer.take();
}
inline Packed packed(const Template& wanted) {
  Packer packer;
  packer.array(1).add(Raw{encode(wanted)});
  return packer.take();
}
inline Packed out_of(const char* space, std::initializer_list<Tuple> tuples) { return request("out", space, raw(packed(tuples)), nullptr, 0); }
inline Packed in_of(const char* space, const Template& wanted) { return request("in", space, raw(packed(wanted)), 0); }
inline Packed waiting_in_of(const char* space, const Template& wanted) { return request("in", space, raw(packed(wanted)), nullptr); }

}  // namespace godwit::testing
