// The copy's descriptors. What the program alone has is made by the copy itself; what the host gives
// (placeholders, standard streams) comes through the control socket as SCM_RIGHTS.
//
// Received and opened descriptors get the lowest free number, which may be one that is wanted later: each
// is put in its place and its first number closed before the next is made.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cstring>

#include "migrate/copy.hh"

namespace godwit::migrate {

namespace {
constexpr uint32_t kOpenOnly = O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY;
uint64_t number(int fd) { return static_cast<uint64_t>(fd); }
bool reads(const Descriptor& d) { return (d.flags & O_ACCMODE) == O_RDONLY; }
}  // namespace

// ---------------------------------------------------------------- from here to there

namespace {

Result<void> send_descriptor(int socket, int fd) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof space;
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
  if (::sendmsg(socket, &message, MSG_NOSIGNAL) != 1) return errno_error("hand a descriptor over");
  return {};
}

}  // namespace

Result<int> Copy::give(int fd) {
  if (auto r = send_descriptor(control_.get(), fd); !r) return r.error();
  struct {
    msghdr message;
    iovec part;
    char space[CMSG_SPACE(sizeof(int))];
    char byte[8];
  } there{};
  const uint64_t at = batch_->free_space();
  auto address = [&](size_t offset) { return reinterpret_cast<char*>(at + offset); };
  there.part = {address(offsetof(decltype(there), byte)), 1};
  there.message.msg_iov = reinterpret_cast<iovec*>(address(offsetof(decltype(there), part)));
  there.message.msg_iovlen = 1;
  there.message.msg_control = address(offsetof(decltype(there), space));
  there.message.msg_controllen = sizeof there.space;
  if (auto r = memory_.write(at, &there, sizeof there); !r) return r.error();
  if (auto r = remote_.must("take a descriptor", SYS_recvmsg, number(control_there_), at, MSG_CMSG_CLOEXEC); !r) return r.error();
  if (auto r = memory_.read(at, &there, sizeof there); !r) return r.error();
  int received = -1;
  std::memcpy(&received, there.space + CMSG_LEN(0), sizeof received);
  if (there.message.msg_controllen < CMSG_LEN(sizeof(int)) || received < 0)
    return make_error(std::errc::io_error, "descriptor was not handed over");
  return received;
}

Result<void> Copy::install(long there, const Descriptor& d) {
  auto from = static_cast<uint64_t>(there);
  if (from == d.number) {
    auto set = remote_.must("set close-on-exec", SYS_fcntl, d.number, F_SETFD, d.flags & O_CLOEXEC ? FD_CLOEXEC : 0);
    return set ? Result<void>() : set.error();
  }
  if (auto r = remote_.must("place a descriptor", SYS_dup3, from, d.number, d.flags & O_CLOEXEC); !r) return r.error();
  auto closed = remote_.must("close", SYS_close, from);
  return closed ? Result<void>() : closed.error();
}

// ---------------------------------------------------------------- each kind

Result<void> Copy::make_file(const Descriptor& d) {
  const uint64_t path = batch_->free_space();
  if (auto r = memory_.write(path, d.link.c_str(), d.link.size() + 1); !r) return r;
  std::string what = "open " + d.link;
  auto there = remote_.must(what.c_str(), SYS_openat, static_cast<uint64_t>(AT_FDCWD), path, d.flags & ~kOpenOnly, 0);
  if (!there) return there.error();
  if (d.position)
    if (auto r = remote_.must("seek", SYS_lseek, *there, d.position, SEEK_SET); !r) return r.error();
  return install(static_cast<long>(*there), d);
}

// Both ends are kept aside under high numbers until all descriptors that use them are made.
Result<void> Copy::make_pipe_end(const Descriptor& d) {
  auto [entry, fresh] = pipes_.try_emplace(d.inode, -1, -1);
  if (fresh) {
    const uint64_t space = batch_->free_space();
    if (auto r = remote_.must("pipe", SYS_pipe2, space, O_CLOEXEC); !r) return r.error();
    auto ends = memory_.get<std::array<int, 2>>(space);
    if (!ends) return ends.error();
    int kept[2];
    for (size_t i = 0; i < 2; ++i) {
      auto aside = remote_.must("keep a pipe", SYS_fcntl, number((*ends)[i]), F_DUPFD_CLOEXEC, number(control_there_) + 1);
      if (!aside) return aside.error();
      if (auto r = remote_.must("close", SYS_close, number((*ends)[i])); !r) return r.error();
      kept[i] = static_cast<int>(*aside);
    }
    entry->second = {kept[0], kept[1]};
  }
  auto [reading, writing] = entry->second;
  // The mode of blocking belongs to the end as a whole; dup shares it between all numbers of that end, as
  // it would be if they had been inherited.
  auto there = remote_.must("duplicate", SYS_dup, number(reads(d) ? reading : writing));
  if (!there) return there.error();
  if (auto r = remote_.must("set flags", SYS_fcntl, *there, F_SETFL, d.flags & (O_NONBLOCK | O_DIRECT)); !r) return r.error();
  if (auto r = install(static_cast<long>(*there), d); !r) return r;
  if (d.option) (void)remote_.call(SYS_fcntl, number(writing), F_SETPIPE_SZ, d.option);
  return fill_pipe(writing, d);
}

Result<void> Copy::fill_pipe(int end, const Descriptor& d) {
  constexpr size_t kRoom = 0x8000;
  for (size_t done = 0; done < d.bytes.size();) {
    size_t n = std::min(kRoom, d.bytes.size() - done);
    if (auto r = memory_.write(batch_->free_space(), d.bytes.data() + done, n); !r) return r;
    auto written = remote_.must("fill a pipe", SYS_write, number(end), batch_->free_space(), n);
    if (!written) return written.error();
    done += *written;
  }
  return {};
}

Result<void> Copy::make_timer(const Descriptor& d, bool existing) {
  uint64_t there = d.number;
  if (!existing) {
    auto made = remote_.must("timerfd", SYS_timerfd_create, d.clock, d.flags & O_NONBLOCK);
    if (!made) return made.error();
    if (auto r = install(static_cast<long>(*made), d); !r) return r;
  }
  // Remaining time, whatever the first setting was; an expired one-shot timer stays disarmed.
  itimerspec setting{};
  // A periodic timer that has expired shows no remaining time until its expirations are read; nor does one that is due, but has
  // not come to count that yet: it does so at once.
  int64_t first = d.first_ns;
  if (first == 0 && d.interval_ns) first = d.value ? d.interval_ns : 1;
  setting.it_value = {first / 1'000'000'000, first % 1'000'000'000};
  setting.it_interval = {d.interval_ns / 1'000'000'000, d.interval_ns % 1'000'000'000};
  const uint64_t space = batch_->free_space();
  if (auto r = memory_.write(space, &setting, sizeof setting); !r) return r;
  if (auto r = remote_.must("set a timer", SYS_timerfd_settime, there, 0, space, 0); !r) return r.error();
  if (!d.value) return {};
  if (auto r = memory_.write(space, &d.value, sizeof d.value); !r) return r;
  constexpr uint64_t kSetTicks = 0x40085400;  // TFD_IOC_SET_TICKS
  auto set = remote_.must("set a timer's expirations", SYS_ioctl, there, kSetTicks, space);
  return set ? Result<void>() : set.error();
}

Result<void> Copy::make_descriptor(const Descriptor& d) {
  if (number(control_there_) <= d.number) return make_error(std::errc::resource_unavailable_try_again, "descriptor number used by the move");
  if (d.same_as >= 0) {
    auto r = remote_.must("share a descriptor", SYS_dup3, number(d.same_as), d.number, d.flags & O_CLOEXEC);
    return r ? Result<void>() : r.error();
  }
  switch (d.kind) {
    case Descriptor::kFile: return make_file(d);
    case Descriptor::kPipe: return make_pipe_end(d);
    case Descriptor::kTimerFd: return make_timer(d, false);
    case Descriptor::kEventFd: {
      auto there = remote_.must("eventfd", SYS_eventfd2, 0, (d.flags & O_NONBLOCK) | (d.option ? 1 : 0));
      if (!there) return there.error();
      if (auto r = install(static_cast<long>(*there), d); !r) return r;
      Descriptor empty = d;
      empty.value = 0;
      return update_in_place(empty, d);
    }
    case Descriptor::kSignalFd: {
      const uint64_t space = batch_->free_space();
      if (auto r = memory_.write(space, &d.value, sizeof d.value); !r) return r;
      auto there = remote_.must("signalfd", SYS_signalfd4, ~0ull, space, 8, d.flags & O_NONBLOCK);
      return there ? install(static_cast<long>(*there), d) : there.error();
    }
    case Descriptor::kEpoll: {
      auto there = remote_.must("epoll", SYS_epoll_create1, 0);
      return there ? install(static_cast<long>(*there), d) : there.error();
    }
    case Descriptor::kPlaceholder: {
      uint32_t index = descriptor_piece(d.control);
      ControlPiece piece = index < image_.pieces.size() ? image_.pieces[index] : ControlPiece{};
      auto fd = host_.placeholder(d.number, descriptor_role(d.control), index, piece);
      if (!fd) return fd.error();
      if (::fcntl(fd->get(), F_SETFL, d.flags & O_NONBLOCK)) return errno_error("set a placeholder's flags");
      auto there = give(fd->get());
      return there ? install(*there, d) : there.error();
    }
    default: {
      std::optional<UniqueFd> fd;
      if (host_.replace) fd = host_.replace(d.number, d.link, d.flags);
      if (!fd)
        return make_error(std::errc::operation_not_supported,
                          "descriptor " + std::to_string(d.number) + " (" + d.link + ") leads out of the pod");
      auto there = give(fd->get());
      return there ? install(*there, d) : there.error();
    }
  }
}

// ---------------------------------------------------------------- epoll

Result<long> Copy::epoll_control(uint32_t epoll, int operation, const EpollItem& item) {
  epoll_event event{};
  event.events = item.events;
  event.data.u64 = item.data;
  const uint64_t space = batch_->free_space();
  if (auto r = memory_.write(space, &event, sizeof event); !r) return r.error();
  return remote_.call(SYS_epoll_ctl, epoll, static_cast<uint64_t>(operation), number(item.descriptor), space);
}

Result<void> Copy::fill_epoll(const Descriptor& d) {
  Batch& batch = *batch_;
  batch.clear();
  for (const EpollItem& item : d.items) {
    epoll_event event{};
    event.events = item.events;
    event.data.u64 = item.data;
    batch.must("watch descriptor " + std::to_string(item.descriptor), SYS_epoll_ctl, d.number, EPOLL_CTL_ADD,
               number(item.descriptor), batch.data(&event, sizeof event));
  }
  return batch.run();
}

Result<void> Copy::change_epoll(const Descriptor& before, const Descriptor& now) {
  auto find = [](const Descriptor& d, int32_t fd) {
    return std::find_if(d.items.begin(), d.items.end(), [&](const EpollItem& i) { return i.descriptor == fd; });
  };
  for (const EpollItem& old : before.items)
    if (find(now, old.descriptor) == now.items.end())
      if (auto r = epoll_control(now.number, EPOLL_CTL_DEL, old); !r) return r.error();  // gone already when closed
  for (const EpollItem& item : now.items) {
    auto old = find(before, item.descriptor);
    if (old != before.items.end() && old->events == item.events && old->data == item.data) continue;
    auto done = epoll_control(now.number, EPOLL_CTL_MOD, item);
    if (done && *done == -ENOENT) done = epoll_control(now.number, EPOLL_CTL_ADD, item);
    if (!done) return done.error();
    if (*done < 0) return make_error(static_cast<std::errc>(-*done), "watch descriptor " + std::to_string(item.descriptor));
  }
  return {};
}

// ---------------------------------------------------------------- all of them

Result<void> Copy::build_descriptors() {
  for (const Descriptor& d : image_.descriptors) {
    if (auto r = make_descriptor(d); !r) return r;
    descriptors_[d.number] = d;
  }
  for (const Descriptor& d : image_.descriptors)
    if (d.kind == Descriptor::kEpoll && d.same_as < 0)
      if (auto r = fill_epoll(d); !r) return r;
  return {};
}

// The same open file description, in another state.
Result<void> Copy::update_in_place(const Descriptor& before, const Descriptor& now) {
  const uint64_t space = batch_->free_space();
  if ((before.flags ^ now.flags) & (O_NONBLOCK | O_APPEND))
    if (auto r = remote_.must("set flags", SYS_fcntl, now.number, F_SETFL, now.flags & (O_NONBLOCK | O_APPEND)); !r) return r.error();
  if ((before.flags ^ now.flags) & O_CLOEXEC)
    if (auto r = remote_.must("set flags", SYS_fcntl, now.number, F_SETFD, now.flags & O_CLOEXEC ? FD_CLOEXEC : 0); !r) return r.error();
  switch (now.kind) {
    case Descriptor::kFile:
      if (before.position != now.position)
        if (auto r = remote_.must("seek", SYS_lseek, now.number, now.position, SEEK_SET); !r) return r.error();
      return {};
    case Descriptor::kTimerFd: return make_timer(now, true);
    case Descriptor::kEpoll: return change_epoll(before, now);
    case Descriptor::kEventFd: {
      uint64_t add = now.value;
      if (now.value >= before.value) add -= before.value;
      else if (before.value && !now.option)
        if (auto r = remote_.must("empty an eventfd", SYS_read, now.number, space, 8); !r) return r.error();
      if (now.option && now.value < before.value) {
        for (uint64_t i = now.value; i < before.value; ++i)
          if (auto r = remote_.must("empty an eventfd", SYS_read, now.number, space, 8); !r) return r.error();
        add = 0;
      }
      if (!add) return {};
      if (auto r = memory_.write(space, &add, sizeof add); !r) return r;
      auto written = remote_.must("fill an eventfd", SYS_write, now.number, space, 8);
      return written ? Result<void>() : written.error();
    }
    case Descriptor::kPipe: {
      if (!reads(now) || before.bytes == now.bytes) return {};
      auto ends = pipes_.find(now.inode);
      if (ends == pipes_.end()) return make_error(std::errc::io_error, "pipe without ends");
      for (size_t left = before.bytes.size(); left;) {
        auto n = remote_.must("empty a pipe", SYS_read, now.number, space, std::min<size_t>(left, 0x8000));
        if (!n) return n.error();
        if (*n == 0) break;
        left -= *n;
      }
      return fill_pipe(ends->second.second, now);
    }
    default: return {};
  }
}

Result<void> Copy::change_descriptors(const Final& final) {
  std::set<uint32_t> remade;
  for (uint32_t n : final.closed)
    if (descriptors_.erase(n))
      if (auto r = remote_.must("close", SYS_close, n); !r) return r.error();
  for (const Descriptor& now : final.descriptors) {
    auto before = descriptors_.find(now.number);
    bool same = before != descriptors_.end() && before->second.kind == now.kind && before->second.inode == now.inode &&
                before->second.control == now.control && before->second.same_as == now.same_as;
    if (same && now.kind == Descriptor::kEpoll) continue;  // below, when all that it watches is there
    auto done = same ? update_in_place(before->second, now) : make_descriptor(now);
    if (!done) return done;
    if (!same) remade.insert(now.number);
    if (now.kind != Descriptor::kEpoll || !same) descriptors_[now.number] = now;
    if (!same && now.kind == Descriptor::kEpoll) descriptors_[now.number].items.clear();
  }
  for (const Descriptor& now : final.descriptors) {
    if (now.kind != Descriptor::kEpoll || now.same_as >= 0) continue;
    if (auto r = change_epoll(descriptors_[now.number], now); !r) return r;
    descriptors_[now.number] = now;
  }
  if (remade.empty()) return {};
  for (auto& [epoll, d] : descriptors_) {  // a number that was made anew has dropped out of the sets it was in
    if (d.kind != Descriptor::kEpoll || d.same_as >= 0) continue;
    for (const EpollItem& item : d.items)
      if (remade.contains(static_cast<uint32_t>(item.descriptor)))
        if (auto r = epoll_control(epoll, EPOLL_CTL_ADD, item); !r) return r.error();
  }
  return {};
}

}  // namespace godwit::migrate
