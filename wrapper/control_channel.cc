#include "wrapper/control_channel.hh"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

namespace godwit::wrapper {

std::string frame(FrameKind kind, const std::string& payload) {
  uint32_t length = static_cast<uint32_t>(payload.size()) + 1;
  std::string bytes(reinterpret_cast<const char*>(&length), 4);
  bytes += static_cast<char>(kind);
  return bytes + payload;
}

int take_frame(std::string& buffer, FrameKind* kind, std::string* payload) {
  if (buffer.size() < 4) return 0;
  uint32_t length;
  memcpy(&length, buffer.data(), 4);
  if (length == 0 || length > kMaxFrame) return -1;
  if (buffer.size() < 4 + static_cast<size_t>(length)) return 0;
  *kind = static_cast<FrameKind>(buffer[4]);
  payload->assign(buffer, 5, length - 1);
  buffer.erase(0, 4 + length);
  return 1;
}

namespace {
// A path longer than sun_path goes through /proc/self/fd of its directory.
sockaddr_un address_in(const UniqueFd& folder, const char* name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", folder.get(), name);
  return address;
}
}  // namespace

Result<UniqueFd> listen_in(const std::string& directory, const char* name) {
  UniqueFd folder(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address = address_in(folder, name);
  ::unlink(address.sun_path);
  // The mode goes on to the name. Not umask: other threads make files, too.
  bool bound = ::fchmod(fd.get(), 0600) == 0 && ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  if (!bound || ::listen(fd.get(), 64) != 0) return errno_error("cannot listen in " + directory);
  return fd;
}

Result<UniqueFd> connect_in(const std::string& directory, const char* name) {
  UniqueFd folder(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return errno_error("cannot open " + directory);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = address_in(folder, name);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return errno_error("nobody listens in " + directory);
  return fd;
}

Result<UniqueFd> connect_control(const std::string& directory) { return connect_in(directory, "control"); }

Result<void> send_frame(int fd, FrameKind kind, const std::string& payload) {
  std::string bytes = frame(kind, payload);
  size_t sent = 0;
  while (sent < bytes.size()) {
    ssize_t n = ::send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("cannot reach the supervisor");
    sent += static_cast<size_t>(n);
  }
  return {};
}

Result<Received> receive_frame(int fd) {
  std::string buffer;
  Received received{};
  for (size_t wanted = 4;;) {
    char bytes[64 << 10];
    iovec part{bytes, std::min(sizeof bytes, wanted - buffer.size())};
    alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = space;
    message.msg_controllen = sizeof space;
    ssize_t n = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("cannot reach the supervisor");
    if (n == 0) return make_error(std::errc::connection_reset, "the supervisor is gone");
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
      int passed;
      memcpy(&passed, CMSG_DATA(c), sizeof passed);
      received.passed.reset(passed);
    }
    buffer.append(bytes, static_cast<size_t>(n));
    if (buffer.size() == 4) {
      uint32_t length;
      memcpy(&length, buffer.data(), 4);
      if (length == 0 || length > kMaxFrame) return make_error(std::errc::protocol_error, "the supervisor's answer");
      wanted = 4 + length;
    }
    if (buffer.size() == wanted && wanted > 4) break;
  }
  if (take_frame(buffer, &received.kind, &received.payload) != 1)
    return make_error(std::errc::protocol_error, "the supervisor's answer");
  return received;
}

}  // namespace godwit::wrapper
