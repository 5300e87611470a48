#include "tuplespace/streams/placeholder.hh"

#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/shared/bell.hh"
#include "tuplespace/streams/visit.hh"

namespace godwit {
namespace {

using shared::Socket;

namespace fs = std::filesystem;

// What tells a placeholder from all other sockets.
struct Wanted {
  uint32_t side;
  std::string own;         // the name that the kernel's table shows: of the connection, or of the listener
  std::string connection;  // own name of side 0, peer's of side 1
};

std::string text_of(const shared::Name& name) { return {name.text, name.length}; }

Wanted wanted_of(const shared::Segment& segment, const Socket& socket, uint32_t side) {
  std::string connection = text_of(connection_name(segment, socket.id, socket.offset));
  return {side, side == 0 ? connection : text_of(listener_name(segment, socket.listener)), connection};
}

// "socket:[INODE]" of the sockets that may be it. unix(7): an abstract name is shown with @ for its zero byte.
std::set<std::string> candidates(const Wanted& wanted) {
  std::set<std::string> links;
  std::ifstream table("/proc/net/unix");
  std::string number, references, protocol, flags, type, state, inode, rest;
  std::getline(table, rest);
  while (table >> number >> references >> protocol >> flags >> type >> state >> inode && std::getline(table, rest)) {
    constexpr const char* kConnected = "03";
    if (state == kConnected && rest.size() > 2 && rest.substr(2) == wanted.own.substr(1)) links.insert("socket:[" + inode + "]");
  }
  return links;
}

bool is_it(int fd, const Wanted& wanted) {
  sockaddr_un name{};
  socklen_t length = sizeof name;
  auto* address = reinterpret_cast<sockaddr*>(&name);
  if ((wanted.side == 0 ? getsockname(fd, address, &length) : getpeername(fd, address, &length)) != 0) return false;
  return length > offsetof(sockaddr_un, sun_path) &&
         std::string_view(name.sun_path, length - offsetof(sockaddr_un, sun_path)) == wanted.connection;
}

UniqueFd copy_from(const fs::path& process, const std::set<std::string>& links, const Wanted& wanted) {
  struct stat owner;
  if (stat(process.c_str(), &owner) != 0 || owner.st_uid != geteuid()) return UniqueFd();
  std::error_code gone;
  for (auto fd = fs::directory_iterator(process / "fd", gone); !gone && fd != fs::directory_iterator(); fd.increment(gone)) {
    std::error_code closed;
    if (!links.contains(fs::read_symlink(fd->path(), closed).string())) continue;
    UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, atoi(process.filename().c_str()), 0)));
    UniqueFd copy(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), atoi(fd->path().filename().c_str()), 0)));
    if (copy.valid() && is_it(copy.get(), wanted)) return copy;
  }
  return UniqueFd();
}

// A copy of the end's placeholder; invalid if no process of ours has it: then the other side hears a hang-up.
UniqueFd copy_placeholder(const Wanted& wanted) {
  std::set<std::string> links = candidates(wanted);
  if (links.empty()) return UniqueFd();
  std::error_code gone;
  for (auto process = fs::directory_iterator("/proc", gone); !gone && process != fs::directory_iterator(); process.increment(gone)) {
    if (atoi(process->path().filename().c_str()) == 0) continue;
    if (UniqueFd copy = copy_from(process->path(), links, wanted); copy.valid()) return copy;
  }
  return UniqueFd();
}

bool hears_bells(const shared::End& end) {
  return (end.sleeper.load() & 1) || end.watched.load() || end.edge_sleepers.load();
}

}  // namespace

void notify_others(shared::Thread& self, uint64_t connection, uint32_t to, uint32_t events) {
  Wanted wanted;
  {
    Still still(self);
    Socket* socket = still.find(connection);
    if (!socket) return;
    shared::full_fence();  // between what was published and this look, as in notify()
    if (!hears_bells(socket->ends[to])) return shared::notify(self, *socket, to, events, -1);
    wanted = wanted_of(self.segment, *socket, 1 - to);
  }
  UniqueFd placeholder = copy_placeholder(wanted);
  // Who had it is gone, and the kernel wakes; or it cannot be had just now. Nothing may be disarmed then.
  if (!placeholder.valid()) return shared::wake_watchers(self.segment);
  Still still(self);
  if (Socket* socket = still.find(connection)) shared::notify(self, *socket, to, events, placeholder.get());
}

}  // namespace godwit
