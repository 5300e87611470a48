#include "tuplespace/streams/deaths.hh"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit {
namespace {

// What is known of a descriptor that has become readable: whose it is, and which.
uint64_t tag_of(int pid, int fd) { return static_cast<uint64_t>(static_cast<uint32_t>(pid)) << 32 | static_cast<uint32_t>(fd); }

bool add(int poll, int fd, uint64_t tag) {
  epoll_event event{EPOLLIN, {.u64 = tag}};
  return epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) == 0;
}

}  // namespace

Deaths::Deaths(std::function<void()> tell)
    : tell_(std::move(tell)), poll_(epoll_create1(EPOLL_CLOEXEC)), end_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (poll_.valid() && end_.valid() && add(poll_.get(), end_.get(), tag_of(0, end_.get()))) thread_ = std::thread([this] { run(); });
}

Deaths::~Deaths() {
  if (!thread_.joinable()) return;
  uint64_t one = 1;
  [[maybe_unused]] auto written = write(end_.get(), &one, sizeof one);
  thread_.join();
}

void Deaths::watch(int pid) {
  std::lock_guard guard(lock_);
  if (!thread_.joinable() || !watched_.insert(pid).second) return;
  int fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (fd >= 0 && add(poll_.get(), fd, tag_of(pid, fd))) return;
  if (fd >= 0) close(fd);
  watched_.erase(pid);  // it has ended, or may be tried again
}

void Deaths::run() {
  for (epoll_event event;;) {
    if (epoll_wait(poll_.get(), &event, 1, -1) != 1) continue;
    int pid = static_cast<int>(event.data.u64 >> 32);
    if (pid == 0) return;
    int fd = static_cast<int>(event.data.u64);
    epoll_ctl(poll_.get(), EPOLL_CTL_DEL, fd, nullptr);  // a child of fork may keep a copy open
    close(fd);
    {
      std::lock_guard guard(lock_);
      watched_.erase(pid);
    }
    tell_();
  }
}

}  // namespace godwit
