#include "tuplespace/node/keeper.hh"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <map>
#include <memory>

#include "tuplespace/node/spawn.hh"
#include "tuplespace/wire.hh"

namespace godwit {
namespace {

constexpr size_t kMaxMessage = kMaxHeldBlob + 4096;
constexpr auto kIdle = std::chrono::seconds(5);
constexpr auto kStartPatience = std::chrono::seconds(5);

struct Message {
  std::string bytes;
  std::vector<UniqueFd> fds;
};

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

Result<void> send_message(int socket, std::string_view bytes, std::span<const int> fds) {
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxHeldDescriptors)];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(head), fds.data(), fds.size_bytes());
  }
  while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0)
    if (errno != EINTR) return errno_error("speaking to the keeper");
  return {};
}

void take_descriptors(msghdr& message, std::vector<UniqueFd>& fds) {
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
}

// Truncation means lost descriptors or bytes, so it is an error.
Result<Message> receive_message(int socket) {
  Message out;
  out.bytes.resize(kMaxMessage);
  iovec part{out.bytes.data(), out.bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 253)];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got;
  while ((got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0)
    if (errno != EINTR) return errno_error("hearing the keeper");
  take_descriptors(message, out.fds);
  if (got == 0) return make_error(std::errc::connection_reset, "hearing the keeper");
  if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) return make_error(std::errc::message_size, "hearing the keeper");
  out.bytes.resize(static_cast<size_t>(got));
  return out;
}

}  // namespace

// ---- the node's side

Result<void> Keeper::connect(bool start) {
  if (socket_.valid()) return {};
  if (!home_.is_locked("keeper.lock")) {
    if (!start) return make_error(std::errc::no_such_file_or_directory, "no keeper runs");
    if (auto started = spawn_detached({"godwit", "keeper"}); !started) return started.error();
  }
  auto address = address_of(home_.socket_path("keeper.sock"));
  auto deadline = std::chrono::steady_clock::now() + kStartPatience;
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno_error("making a socket");
  timeval patience{2, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  while (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    if (std::chrono::steady_clock::now() > deadline) return errno_error("connecting to the keeper");
    poll(nullptr, 0, 2);  // it is on its way to listen()
  }
  socket_ = std::move(fd);
  return {};
}

Result<std::vector<Keeper::Held>> Keeper::ask(const std::string& request, std::span<const int> fds) {
  if (auto sent = send_message(socket_.get(), request, fds); !sent) return sent.error();
  std::vector<Held> all;
  for (;;) {
    auto message = receive_message(socket_.get());
    if (!message) return message.error();
    auto object = unpack(message->bytes);
    if (!object) return object.error();
    Fields fields(object->get());
    if (fields.get_or<bool>("more", false)) {
      all.push_back({fields.get_or<std::string>("name", ""),
                     std::string(fields.get_or<Bin>("blob", {}).data), std::move(message->fds)});
      continue;
    }
    int code = fields.get_or<int>("code", EPROTO);
    if (code == 0) return all;
    return Error{std::error_code(code, std::generic_category()), fields.get_or<std::string>("what", "the keeper")};
  }
}

// The keeper may have ended since the last call; then once more with a new one. Requests are idempotent.
Result<std::vector<Keeper::Held>> Keeper::ask_again(const std::string& request, std::span<const int> fds,
                                                    bool start) {
  for (int attempt = 0;; ++attempt) {
    if (auto connected = connect(start); !connected) return connected.error();
    auto answer = ask(request, fds);
    bool lost = !answer && (answer.error().code == std::errc::connection_reset ||
                            answer.error().code == std::errc::broken_pipe);
    if (!answer) socket_.reset();
    if (!lost || attempt == 1) return answer;
  }
}

Result<void> Keeper::put(const std::string& name, std::span<const int> fds, std::string_view blob) {
  if (fds.size() > kMaxHeldDescriptors || blob.size() > kMaxHeldBlob || name.size() > 1024)
    return make_error(std::errc::argument_list_too_long, "keeping descriptors as " + name.substr(0, 80));
  auto answer = ask_again(pack_map("op", "put", "name", name, "blob", Bin{blob}), fds, true);
  return answer ? Result<void>{} : answer.error();
}

Result<void> Keeper::drop(const std::string& name) {
  auto answer = ask_again(pack_map("op", "drop", "name", name), {}, false);
  if (answer || answer.error().code == std::errc::no_such_file_or_directory) return {};
  return answer.error();
}

namespace {
Result<std::vector<Keeper::Held>> or_nothing(Result<std::vector<Keeper::Held>> answer) {
  if (!answer && answer.error().code == std::errc::no_such_file_or_directory) return std::vector<Keeper::Held>{};
  return answer;
}
}  // namespace

Result<std::vector<Keeper::Held>> Keeper::list() { return or_nothing(ask_again(pack_map("op", "list"), {}, false)); }
Result<std::vector<Keeper::Held>> Keeper::all() { return or_nothing(ask_again(pack_map("op", "all"), {}, false)); }

// ---- the process

namespace {

class KeeperProcess {
 public:
  explicit KeeperProcess(UniqueFd listener) : listener_(std::move(listener)) {}

  void run() {
    for (;;) {
      std::vector<pollfd> watched{{listener_.get(), POLLIN, 0}};
      for (const auto& client : clients_) watched.push_back({client.get(), POLLIN, 0});
      bool idle = held_.empty() && clients_.empty();
      int ready = poll(watched.data(), watched.size(), idle ? static_cast<int>(kIdle / std::chrono::milliseconds(1)) : -1);
      if (ready == 0) return;
      for (size_t i = 1; i < watched.size(); ++i)
        if (watched[i].revents && !serve(clients_[i - 1])) clients_[i - 1].reset();
      std::erase_if(clients_, [](const UniqueFd& client) { return !client.valid(); });
      if (watched[0].revents) accept_client();
    }
  }

 private:
  struct Entry {
    std::string blob;
    std::vector<UniqueFd> fds;
  };

  void accept_client() {
    UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    timeval patience{2, 0};  // one that does not read its answers is dropped
    if (!client.valid()) return;
    setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    clients_.push_back(std::move(client));
  }

  bool serve(UniqueFd& client) {
    auto message = receive_message(client.get());
    if (!message) return false;
    auto object = unpack(message->bytes);
    if (!object) return false;
    Fields fields(object->get());
    std::string op = fields.get_or<std::string>("op", "");
    std::string name = fields.get_or<std::string>("name", "");
    if (op == "put") held_[name] = {std::string(fields.get_or<Bin>("blob", {}).data), std::move(message->fds)};
    else if (op == "drop") held_.erase(name);
    else if (op == "list" || op == "all") return show(client.get(), op == "all");
    else return answer(client.get(), ENOSYS, "the keeper has no operation '" + op + "'");
    return answer(client.get(), 0, "");
  }

  bool answer(int client, int code, const std::string& what) {
    return send_message(client, pack_map("code", code, "what", what, "more", false), {}).has_value();
  }

  bool show(int client, bool with_descriptors) {
    for (const auto& [name, entry] : held_) {
      std::vector<int> fds;
      if (with_descriptors)
        for (const auto& fd : entry.fds) fds.push_back(fd.get());
      if (!send_message(client, pack_map("name", name, "blob", Bin{entry.blob}, "more", true), fds)) return false;
    }
    return answer(client, 0, "");
  }

  UniqueFd listener_;
  std::vector<UniqueFd> clients_;
  std::map<std::string, Entry> held_;
};

}  // namespace

Result<void> run_keeper(const Home& home) {
  auto lock = home.try_lock("keeper.lock");
  if (!lock) return lock.error();
  if (!lock->has_value()) return {};  // another was quicker
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  umask(0077);
  UniqueFd listener(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  std::string path = home.socket_path("keeper.sock");
  auto address = address_of(path);
  unlink(path.c_str());
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(listener.get(), 16) != 0)
    return errno_error("listening on " + home.file("keeper.sock"));
  KeeperProcess(std::move(listener)).run();
  unlink(path.c_str());
  return {};
}

}  // namespace godwit
