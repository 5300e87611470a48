// Classification of descriptors by their link and fdinfo, see proc(5).
#include "migrate/descriptors.hh"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>

#include "migrate/proc.hh"

namespace godwit::migrate {

namespace {

Error refuse(int number, const std::string& link, const std::string& reason) {
  return make_error(std::errc::operation_not_supported,
                    "descriptor " + std::to_string(number) + " (" + link + ") " + reason);
}

// "it_value: (0, 3999999)"
int64_t seconds_pair(std::string_view text, std::string_view label) {
  long long seconds = 0, nanoseconds = 0;
  std::sscanf(std::string(line_after(text, label)).c_str(), " (%lld, %lld)", &seconds, &nanoseconds);
  return seconds * 1'000'000'000 + nanoseconds;
}

std::vector<EpollItem> epoll_items(std::string_view text) {
  std::vector<EpollItem> items;
  for (size_t at = 0; (at = text.find("tfd:", at)) != text.npos; at += 4) {
    EpollItem item{};
    std::string line(text.substr(at, text.find('\n', at) - at));
    if (std::sscanf(line.c_str(), "tfd: %d events: %x data: %" SCNx64, &item.descriptor, &item.events, &item.data) == 3)
      items.push_back(item);
  }
  return items;
}

void describe_timer(Descriptor& d, std::string_view info) {
  d.kind = Descriptor::kTimerFd;
  d.clock = static_cast<uint32_t>(number_after(info, "clockid: ").value_or(1));
  d.value = number_after(info, "ticks: ").value_or(0);
  d.option = number_after(info, "settime flags: ", 8).value_or(0);
  d.first_ns = seconds_pair(info, "it_value: ");
  d.interval_ns = seconds_pair(info, "it_interval: ");
}

// Descriptors without a name in the file system. Empty answer: it can be moved.
std::string describe_anonymous(Descriptor& d, std::string_view info) {
  if (d.link.starts_with("anon_inode:[eventfd")) {
    d.kind = Descriptor::kEventFd;
    d.value = number_after(info, "eventfd-count:", 16).value_or(0);
    d.option = number_after(info, "eventfd-semaphore:").value_or(0);
  } else if (d.link == "anon_inode:[eventpoll]") {
    d.kind = Descriptor::kEpoll;
    d.items = epoll_items(info);
  } else if (d.link == "anon_inode:[timerfd]") {
    describe_timer(d, info);
  } else if (d.link == "anon_inode:[signalfd]") {
    d.kind = Descriptor::kSignalFd;
    d.value = number_after(info, "sigmask:", 16).value_or(0);
  } else if (d.link.starts_with("pipe:[")) {
    d.kind = Descriptor::kPipe;
    d.inode = number_after(d.link, "pipe:[").value_or(0);
  } else {
    return "is of a kind that cannot be moved";
  }
  return {};
}

// A socket that the wrapper does not know. process: a pidfd.
std::string describe_socket(int process, int number) {
  UniqueFd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, process, number, 0)));
  int domain = 0, type = 0;
  socklen_t length = sizeof domain;
  if (::getsockopt(copy.get(), SOL_SOCKET, SO_DOMAIN, &domain, &length) ||
      ::getsockopt(copy.get(), SOL_SOCKET, SO_TYPE, &type, &length))
    return "is a socket of this kernel";
  if (domain == AF_UNIX) return "is a UNIX domain socket";
  if (domain != AF_INET && domain != AF_INET6) return "is a socket of a family that is not served";
  return type == SOCK_DGRAM ? "is a UDP socket" : type == SOCK_STREAM ? "is a TCP socket of the real network" : "is a raw socket";
}

std::string describe_path(Descriptor& d, std::string_view info, const struct stat& st) {
  if (d.link.starts_with("/dev/pts/") || d.link == "/dev/tty" || d.link.starts_with("/dev/tty")) {
    d.kind = Descriptor::kOutside;
    return {};
  }
  if (d.link.starts_with("/memfd:")) return "is anonymous shared memory";
  if (d.link.ends_with(" (deleted)")) return "is a deleted file";
  if (info.find("\nlock:") != info.npos) return "holds a file lock";
  if (S_ISFIFO(st.st_mode)) return "is a named pipe";
  if (S_ISSOCK(st.st_mode) || S_ISBLK(st.st_mode)) return "is a socket or a block device";
  d.kind = Descriptor::kFile;
  d.position = number_after(info, "pos:").value_or(0);
  return {};
}

}  // namespace

DescriptorSurvey::DescriptorSurvey(pid_t pid)
    : pid_(pid), process_(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))) {}

// A running program may close a descriptor and open another file under its number while we look: then we look again.
// errors: errc::no_such_file_or_directory if the descriptor is gone.
Result<DescriptorSurvey::Seen> DescriptorSurvey::look(int number, uint32_t control) {
  auto closed = [] { return make_error(std::errc::no_such_file_or_directory, "descriptor closed"); };
  std::string link_path = proc_path(pid_, "fd/" + std::to_string(number));
  bool placeholder = control && descriptor_role(control) != Role::kSet;
  for (;;) {
    Seen seen;
    Descriptor& d = seen.descriptor;
    if (!placeholder && (d.link = read_link(link_path)).empty()) return closed();
    seen.info = open_for_reading(proc_path(pid_, "fdinfo/" + std::to_string(number)));
    if (!seen.info.valid()) return closed();
    seen.text = read_again(seen.info.get());
    d.number = static_cast<uint32_t>(number);
    d.control = control;
    d.flags = static_cast<uint32_t>(number_after(seen.text, "flags:", 8).value_or(0));
    d.inode = number_after(seen.text, "ino:").value_or(0);
    if (placeholder) {
      d.kind = Descriptor::kPlaceholder;
      return seen;
    }
    struct stat st{};
    bool looked = ::stat(link_path.c_str(), &st) == 0;
    if (!looked && errno == ENOENT) continue;
    std::string reason = !looked              ? "cannot be looked at"
                         : d.link[0] == '/' ? describe_path(d, seen.text, st)
                         : d.link.starts_with("socket:[") ? describe_socket(process_.get(), number)
                                            : describe_anonymous(d, seen.text);
    if (read_link(link_path) != d.link) continue;
    if (!reason.empty()) return refuse(number, d.link, reason);
    return seen;
  }
}

// Numbers made by dup(2) or inherited twice share position and flags; kcmp(2) tells.
void DescriptorSurvey::find_shared(std::vector<Descriptor>& all) {
  std::map<std::pair<uint64_t, uint32_t>, std::vector<uint32_t>> leaders;
  for (Descriptor& d : all) {
    d.same_as = -1;
    if (d.kind == Descriptor::kPlaceholder) continue;
    auto& group = leaders[{d.inode, d.flags & ~static_cast<uint32_t>(O_CLOEXEC)}];
    for (uint32_t leader : group)
      if (::syscall(SYS_kcmp, pid_, pid_, KCMP_FILE, leader, d.number) == 0) d.same_as = static_cast<int32_t>(leader);
    if (d.same_as < 0) group.push_back(d.number);
  }
}

namespace {

// A pipe whose both ends are here is made anew with what it holds; one with an end elsewhere leads out. The target's host
// has other ends for what leads out of the standard streams, and for nothing else.
Result<void> find_outside(std::vector<Descriptor>& all) {
  std::map<uint64_t, int> ends;
  for (const Descriptor& d : all)
    if (d.kind == Descriptor::kPipe) ends[d.inode] |= (d.flags & O_ACCMODE) == O_RDONLY ? 1 : (d.flags & O_ACCMODE) == O_WRONLY ? 2 : 3;
  for (Descriptor& d : all) {
    if (d.kind == Descriptor::kPipe && ends[d.inode] != 3) d.kind = Descriptor::kOutside;
    if (d.kind == Descriptor::kOutside && d.number > 2 && d.same_as < 0)
      return refuse(static_cast<int>(d.number), d.link, "leads out of the pod");
  }
  return {};
}

}  // namespace

Result<void> DescriptorSurvey::check(const std::vector<uint32_t>& control) {
  std::vector<Descriptor> all;
  for (int number : numeric_names(proc_path(pid_, "fd"))) {
    if (static_cast<size_t>(number) < control.size() && control[static_cast<size_t>(number)]) continue;
    auto seen = look(number, 0);
    if (!seen && seen.error().code == std::errc::no_such_file_or_directory) continue;
    if (!seen) return seen.error();
    all.push_back(std::move(seen->descriptor));
  }
  find_shared(all);
  return find_outside(all);
}

Result<void> DescriptorSurvey::read_pipes(std::vector<Descriptor>& all) {
  std::map<uint64_t, bool> read;
  for (Descriptor& d : all) {
    if (d.kind != Descriptor::kPipe) continue;
    d.bytes.clear();
    if ((d.flags & O_ACCMODE) == O_WRONLY || std::exchange(read[d.inode], true)) continue;
    UniqueFd end(static_cast<int>(::syscall(SYS_pidfd_getfd, process_.get(), d.number, 0)));
    int unread = 0;
    if (!end.valid() || ::ioctl(end.get(), FIONREAD, &unread)) {
      if (errno == EBADF || errno == ENOTTY) continue;  // it runs on, and has closed it
      return errno_error("look into a pipe");
    }
    d.option = static_cast<uint64_t>(::fcntl(end.get(), F_GETPIPE_SZ));
    if (unread == 0) continue;
    int copy[2];
    if (::pipe2(copy, O_CLOEXEC | O_NONBLOCK)) return errno_error("pipe");
    UniqueFd out(copy[0]), in(copy[1]);
    ::fcntl(in.get(), F_SETPIPE_SZ, d.option);
    d.bytes.resize(static_cast<size_t>(unread));
    ssize_t n = ::tee(end.get(), in.get(), d.bytes.size(), SPLICE_F_NONBLOCK);
    size_t have = 0;
    while (n > 0 && have < static_cast<size_t>(n)) {
      ssize_t k = ::read(out.get(), d.bytes.data() + have, d.bytes.size() - have);
      if (k <= 0) break;
      have += static_cast<size_t>(k);
    }
    d.bytes.resize(have);
  }
  return {};
}

Result<std::vector<Descriptor>> DescriptorSurvey::take(const std::vector<uint32_t>& control) {
  seen_.clear();
  std::vector<Descriptor> all;
  for (int number : numeric_names(proc_path(pid_, "fd"))) {
    auto word = static_cast<size_t>(number) < control.size() ? control[static_cast<size_t>(number)] : 0;
    auto seen = look(number, word);
    if (!seen && seen.error().code == std::errc::no_such_file_or_directory) continue;  // it runs on, after all
    if (!seen) return seen.error();
    all.push_back(seen->descriptor);
    seen_.emplace(static_cast<uint32_t>(number), std::move(*seen));
  }
  find_shared(all);
  if (auto r = find_outside(all); !r) return r.error();
  if (auto r = read_pipes(all); !r) return r.error();
  for (const Descriptor& d : all) seen_[d.number].descriptor = d;
  return all;
}

namespace {
bool holds_bytes(const Descriptor& d) { return d.kind == Descriptor::kPipe; }
}  // namespace

Result<void> DescriptorSurvey::update(const std::vector<uint32_t>& control, std::vector<Descriptor>& changed,
                                      std::vector<uint32_t>& closed) {
  struct stat st{};
  bool same_count = ::stat(proc_path(pid_, "fd").c_str(), &st) == 0 && static_cast<size_t>(st.st_size) == seen_.size();
  auto word = [&](uint32_t n) { return n < control.size() ? control[n] : 0u; };
  bool pipes = false, structure = !same_count;
  for (auto& [number, seen] : seen_) {
    uint32_t now = word(number);
    if (seen.descriptor.kind == Descriptor::kPlaceholder && now == seen.descriptor.control) continue;
    pipes |= holds_bytes(seen.descriptor);
    std::string text = read_again(seen.info.get());
    if (text == seen.text && now == seen.descriptor.control) continue;
    auto inode = number_after(text, "ino:");
    if (!inode || *inode != seen.descriptor.inode || now != seen.descriptor.control || seen.descriptor.kind == Descriptor::kPlaceholder)
      structure = true;
    seen.text.clear();  // to be looked at again
  }
  if (!structure && !pipes) {
    for (auto& [number, seen] : seen_) {
      if (!seen.text.empty()) continue;
      auto again = look(static_cast<int>(number), word(number));
      if (!again) return again.error();
      again->descriptor.same_as = seen.descriptor.same_as;
      if (seen.descriptor.kind == Descriptor::kOutside) again->descriptor.kind = Descriptor::kOutside;
      seen.descriptor = again->descriptor;
      seen.text = again->text;
      changed.push_back(seen.descriptor);
    }
    return {};
  }
  // Descriptors came or went, or pipes may hold other bytes: one full look, compared with the last.
  std::map<uint32_t, Seen> before = std::move(seen_);
  auto all = take(control);
  if (!all) return all.error();
  for (auto& [number, seen] : before)
    if (!seen_.contains(number)) closed.push_back(number);
  for (const Descriptor& d : *all) {
    auto old = before.find(d.number);
    bool same = old != before.end() && !old->second.text.empty() && old->second.descriptor.control == d.control &&
                old->second.descriptor.kind == d.kind && old->second.descriptor.inode == d.inode &&
                (d.kind == Descriptor::kPlaceholder ||
                 (old->second.text == seen_[d.number].text && old->second.descriptor.bytes == d.bytes));
    if (!same) changed.push_back(d);
  }
  return {};
}

}  // namespace godwit::migrate
