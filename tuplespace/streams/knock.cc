// The rendezvous of programs, from the node's side: abstract AF_UNIX names (shared/names.cc).
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/un.h>

#include "tuplespace/streams/streams.hh"

namespace godwit {
namespace {

struct AbstractAddress {
  sockaddr_un address{};
  socklen_t length;
  explicit AbstractAddress(const shared::Name& name) {
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, name.text, name.length);
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.length);
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

UniqueFd unix_socket() { return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }

constexpr auto kRetry = std::chrono::milliseconds(2);
constexpr int kTries = 2000;

void try_knock(Streams& streams, shared::Offset offset, std::shared_ptr<UniqueFd> placeholder, int tries,
               std::function<void(Result<UniqueFd>)> done) {
  shared::Socket& socket = streams.at(offset);
  AbstractAddress listener(listener_name(streams.segment(), socket.listener));
  if (::connect(placeholder->get(), listener.get(), listener.length) == 0) return done(std::move(*placeholder));
  if (errno != EAGAIN || tries == 0) return done(errno_error("reach the listener"));
  streams.loop().after(kRetry, [&streams, offset, placeholder, tries, done = std::move(done)] {
    try_knock(streams, offset, placeholder, tries - 1, done);
  });
}

}  // namespace

void knock(Streams& streams, shared::Offset offset, std::function<void(Result<UniqueFd>)> done) {
  shared::Socket& socket = streams.at(offset);
  auto placeholder = std::make_shared<UniqueFd>(unix_socket());
  AbstractAddress mine(connection_name(streams.segment(), socket.id, offset));
  if (!placeholder->valid() || ::bind(placeholder->get(), mine.get(), mine.length) != 0)
    return done(errno_error("make a placeholder"));
  try_knock(streams, offset, placeholder, kTries, std::move(done));
}

Result<UniqueFd> listen_at(const shared::Name& name) {
  UniqueFd fd = unix_socket();
  AbstractAddress address(name);
  constexpr int kBacklog = 4096;
  if (!fd.valid() || ::bind(fd.get(), address.get(), address.length) != 0 || ::listen(fd.get(), kBacklog) != 0)
    return errno_error("listen for programs of this host");
  return fd;
}

// The listener may be a pod's own, which is blocking if the program wants it so: asked first. Nobody else accepts here.
std::optional<Accepted> accept_at(int listener, shared::Segment segment) {
  for (pollfd waiting{listener, POLLIN, 0}; ::poll(&waiting, 1, 0) == 1;) {
    sockaddr_un peer{};
    socklen_t length = sizeof peer;
    UniqueFd fd(::accept4(listener, reinterpret_cast<sockaddr*>(&peer), &length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return std::nullopt;
    }
    Accepted accepted;
    uint32_t text = length > offsetof(sockaddr_un, sun_path)
                        ? static_cast<uint32_t>(length - offsetof(sockaddr_un, sun_path)) : 0;
    if (!parse_connection_name(segment, peer.sun_path, text, &accepted.connection, &accepted.offset)) continue;
    accepted.placeholder = std::move(fd);
    return accepted;
  }
  return std::nullopt;
}

}  // namespace godwit
