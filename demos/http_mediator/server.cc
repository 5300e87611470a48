// An HTTP server that has no socket: it is nothing but in and out on the space net.
//
// usage: http_mediator [PORT]      prints "listening PORT", then every tuple that it takes or puts, one a line
#include <charconv>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "tuplespace/mediator.hh"
#include "tuplespace/text.hh"

namespace {

using namespace godwit;

void say(const std::string& line) {
  if (std::printf("%s\n", line.c_str()) < 0 || std::fflush(stdout) != 0)
    throw std::runtime_error("a line cannot be printed; see where stdout leads");
}

void print(const Tuple& tuple) {
  constexpr size_t kWidth = 160;
  std::string line = to_text(tuple);
  if (line.size() > kWidth) line = line.substr(0, kWidth) + "...";
  say(line);
}

// All that the server knows of the space.
class Net {
 public:
  explicit Net(uint16_t port) {
    say("listening " + std::to_string(mediator_.listen("0.0.0.0", port)));
  }
  Tuple in(const std::vector<Template>& wanted) {
    Tuple taken = mediator_.in(wanted);
    print(taken);
    return taken;
  }
  /// returns false if nobody reads the stream any more.
  bool out(const Tuple& tuple) {
    try {
      mediator_.out(tuple);
    } catch (const Failure&) {
      return false;
    }
    print(tuple);
    return true;
  }

 private:
  Mediator mediator_;
};

struct Reply {
  std::string status, body;
};

Reply reply_to(const std::string& method, const std::string& path) {
  if (method != "GET") return {"405 Method Not Allowed", "only GET is served here\n"};
  if (path == "/") return {"200 OK", "This page was put into a tuple space.\n"};
  if (path == "/hello") return {"200 OK", "hello\n"};
  if (path == "/long") return {"200 OK", std::string(300'000, '=') + "\n"};  // more than a stream has room for
  return {"404 Not Found", "there is no " + path + "\n"};
}

// One connection: the bytes of requests that have come, and how far the answers reach.
class Conversation {
 public:
  Conversation(Net& net, std::string connection) : net_(net), connection_(std::move(connection)) {}

  void came(const std::string& bytes) {
    came_ += bytes;
    for (size_t end; !over_ && (end = came_.find("\r\n\r\n")) != came_.npos; came_.erase(0, end + 4)) answer(came_.substr(0, end + 2));
  }
  void ended() {
    if (!over_) finish();
  }

 private:
  void answer(const std::string& head) {
    size_t first = head.find(' '), second = head.find(' ', first + 1);
    Reply reply = second == head.npos ? Reply{"400 Bad Request", "what is that?\n"}
                                      : reply_to(head.substr(0, first), head.substr(first + 1, second - first - 1));
    bool keep = head.find("HTTP/1.1\r\n") != head.npos ? head.find("Connection: close\r\n") == head.npos
                                                       : head.find("Connection: keep-alive\r\n") != head.npos;
    put("HTTP/1.1 " + reply.status + "\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(reply.body.size()) +
        "\r\nConnection: " + (keep ? "keep-alive" : "close") + "\r\n\r\n" + reply.body);
    if (!keep) finish();
  }

  void put(const std::string& bytes) {
    constexpr size_t kMost = 64 << 10;
    for (size_t at = 0; at < bytes.size() && !over_; at += kMost) {
      std::string part = bytes.substr(at, kMost);
      over_ = !net_.out({"stream", connection_, "s>c", offset_, Bytes{part}});
      offset_ += static_cast<int64_t>(part.size());
    }
  }
  void finish() {
    over_ = true;
    net_.out({"stream", connection_, "s>c", offset_, Nil{}});
  }

  Net& net_;
  std::string connection_, came_;
  int64_t offset_ = 0;
  bool over_ = false;
};

void serve(uint16_t port) {
  Net net(port);
  std::map<std::string, Conversation> conversations;
  for (;;) {
    OneOf ours;
    for (const auto& [connection, conversation] : conversations) ours.values.emplace_back(connection);
    Tuple tuple = net.in({{"connect", AnyFormal{}, port, AnyFormal{}, AnyFormal{}},
                          {"stream", ours, "c>s", AnyFormal{}, AnyFormal{}}});
    if (*tuple[0].get<std::string>() == "connect") {
      std::string connection = *tuple[3].get<std::string>();
      conversations.emplace(connection, Conversation(net, connection));
      continue;
    }
    auto conversation = conversations.find(*tuple[1].get<std::string>());
    if (const Bytes* bytes = tuple[4].get<Bytes>()) {
      conversation->second.came(bytes->data);
    } else {
      conversation->second.ended();
      conversations.erase(conversation);
    }
  }
}

std::optional<uint16_t> parse_port(std::string_view word) {
  uint16_t port = 0;
  auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), port);
  if (error != std::errc() || end != word.data() + word.size() || port == 0) return std::nullopt;
  return port;
}

}  // namespace

int main(int argc, char** argv) {
  std::string_view word = argc > 1 ? argv[1] : "8080";
  if (word == "--help" || word == "-h") {
    std::printf("usage: http_mediator [PORT]\n\nAnswers HTTP on PORT (8080), with no socket: it is nothing but in and out on the space net.\n");
    return 0;
  }
  auto port = parse_port(word);
  if (!port || argc > 2) {
    std::fprintf(stderr, "http_mediator: it takes one PORT, from 1 to 65535; see --help\n");
    return 2;
  }
  try {
    serve(*port);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "http_mediator: %s\n", failure.what());
    return 1;
  }
}
