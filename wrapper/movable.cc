#include "wrapper/movable.hh"

#include <dirent.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "tuplespace/posix/unique_fd.hh"
#include "wrapper/control.hh"
#include "wrapper/unmovable.hh"

namespace godwit::wrapper {
namespace {

// The parts of a program's Control that matter here, read from outside.
struct View {
  Unmovable noted = Unmovable::kNone;
  std::vector<uint32_t> descriptors;
};

bool read_from(pid_t program, uint64_t address, void* to, size_t size) {
  iovec local{to, size}, remote{reinterpret_cast<void*>(address), size};
  return process_vm_readv(program, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

bool read_view(pid_t program, uint64_t control, View& view) {
  uint32_t noted = 0, count = 0;
  if (!read_from(program, control + offsetof(Control, unmovable), &noted, sizeof noted) ||
      !read_from(program, control + offsetof(Control, descriptor_count), &count, sizeof count))
    return false;
  if (noted < static_cast<uint32_t>(Unmovable::kCount)) view.noted = static_cast<Unmovable>(noted);
  view.descriptors.resize(count < kControlDescriptors ? count : kControlDescriptors);
  return read_from(program, control + offsetof(Control, descriptors), view.descriptors.data(),
                   view.descriptors.size() * sizeof(uint32_t));
}

const char* kind_of(int socket) {
  int domain = 0, type = 0;
  socklen_t length = sizeof domain;
  getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length);
  length = sizeof type;
  getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &length);
  if (domain == AF_UNIX) return "a UNIX domain socket";
  if (domain != AF_INET && domain != AF_INET6) return "a socket of a family that is not served";
  return type == SOCK_DGRAM ? "a UDP socket" : type == SOCK_STREAM ? "a TCP socket of the real network" : "a raw socket";
}

// Placeholders are sockets too; a word in Control tells them from the program's own.
std::string native_socket(pid_t program, const std::vector<uint32_t>& descriptors) {
  std::string folder = "/proc/" + std::to_string(program) + "/fd";
  std::unique_ptr<DIR, int (*)(DIR*)> list(opendir(folder.c_str()), closedir);
  if (!list) return {};
  UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, program, 0)));
  while (dirent* entry = readdir(list.get())) {
    if (entry->d_name[0] == '.') continue;
    auto number = std::strtoul(entry->d_name, nullptr, 10);
    if (number < descriptors.size() && descriptors[number]) continue;
    char link[16];
    ssize_t n = readlinkat(dirfd(list.get()), entry->d_name, link, sizeof link);
    if (n < 8 || std::string_view(link, 8) != "socket:[") continue;
    UniqueFd copy(static_cast<int>(syscall(SYS_pidfd_getfd, process.get(), number, 0)));
    if (copy.valid()) return std::string("it holds ") + kind_of(copy.get()) + ", descriptor " + entry->d_name;
  }
  return {};
}

}  // namespace

std::string reason_not_to_move(shared::Segment segment, uint32_t member, pid_t program) {
  if (member == 0 || member >= shared::kMembers || program <= 0) return {};
  for (const shared::Process& process : segment.area_of(member)->processes) {
    View view;
    if (!process.pid.load() || !read_view(program, process.control, view)) continue;
    if (view.noted != Unmovable::kNone) return unmovable_text(view.noted);
    return native_socket(program, view.descriptors);
  }
  return {};
}

}  // namespace godwit::wrapper
