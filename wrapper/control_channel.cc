#include "wrapper/control_channel.hh"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

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

// A path longer than sun_path goes through /proc/self/fd of its directory.
Result<UniqueFd> connect_control(const std::string& directory) {
  UniqueFd folder(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return errno_error("cannot open " + directory);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/control", folder.get());
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return errno_error("no supervisor at " + directory);
  return fd;
}

Result<void> send_frame(int fd, FrameKind kind, const std::string& payload, const int* fds, int count) {
  std::string bytes = frame(kind, payload);
  size_t sent = 0;
  while (sent < bytes.size()) {
    iovec part{bytes.data() + sent, bytes.size() - sent};
    alignas(cmsghdr) char space[CMSG_SPACE(4 * sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (sent == 0 && count > 0) {
      message.msg_control = space;
      message.msg_controllen = CMSG_SPACE(count * sizeof(int));
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(count * sizeof(int));
      memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    ssize_t n = ::sendmsg(fd, &message, MSG_NOSIGNAL);
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
    char bytes[4096];
    iovec part{bytes, std::min(sizeof bytes, wanted - buffer.size())};
    alignas(cmsghdr) char space[CMSG_SPACE(4 * sizeof(int))];
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
      size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count && i < 4; ++i) {
        int passed;
        memcpy(&passed, CMSG_DATA(c) + i * sizeof(int), sizeof passed);
        received.fds[i].reset(passed);
      }
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
