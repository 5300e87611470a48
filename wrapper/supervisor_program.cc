// The pod's processes: how they begin, what init tells of them, and their end. What must stay true: nothing of the pod runs
// before its file of pod_file.hh is written, and its end is told after all that it wrote.
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "wrapper/pod_files.hh"
#include "wrapper/program_kind.hh"
#include "wrapper/supervisor_parts.hh"

namespace godwit::wrapper {
namespace {

constexpr const char* kAllowNamespaces = "; allow user namespaces (sysctl user.max_user_namespaces), or run it as root";

Result<void> make_pipe(UniqueFd& read_end, UniqueFd& write_end) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("cannot make a pipe");
  read_end.reset(ends[0]);
  write_end.reset(ends[1]);
  return {};
}

}  // namespace

// A plain clone, not fork: namespaces of the child alone, and the parent's own stay as they are.
Result<void> Supervisor::start_init() {
  int pair[2], go[2];
  if (auto ok = make_pipe(pipes_.in_read, pipes_.in_write); !ok) return ok;
  for (int i = 0; i < 2; ++i)
    if (auto ok = make_pipe(pipes_.out_read[i], pipes_.out_write[i]); !ok) return ok;
  UniqueFd started;
  if (auto ok = make_pipe(started_, started); !ok) return ok;
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return errno_error("cannot make a socket pair");
  report_.reset(pair[0]);
  UniqueFd report(pair[1]), restoree;
  int one = 1;
  ::setsockopt(report_.get(), SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
  plan_.init.report = report.get();
  plan_.init.started = started.get();
  if (plan_.init.program) {
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return errno_error("cannot make a socket pair");
    restoree_.reset(pair[0]);
    restoree.reset(pair[1]);
    plan_.init.restoree = restoree.get();
  }
  if (::pipe2(go, O_CLOEXEC) != 0) return errno_error("cannot make a pipe");
  UniqueFd go_read(go[0]), go_write(go[1]);
  unsigned long flags = CLONE_NEWPID | SIGCHLD | (::geteuid() ? CLONE_NEWUSER : 0);
  init_ = static_cast<pid_t>(::syscall(SYS_clone, flags, nullptr, nullptr, nullptr, nullptr));
  if (init_ == 0) become_init(pipes_, go_read.get());
  if (init_ < 0)
    return make_error(std::errc::operation_not_permitted,
                      std::string("cannot make a PID namespace: ") + strerror(errno) + kAllowNamespaces);
  if (flags & CLONE_NEWUSER) map_user(init_);
  char path[32];
  snprintf(path, sizeof path, "/proc/%d", init_);
  namespace_ = pid_namespace_inode(path);
  if (auto ok = write_pod_file(); !ok) return ok;
  if (::write(go_write.get(), "", 1) != 1) return errno_error("cannot start the pod's first process");
  pipes_.in_read.reset();
  for (auto& end : pipes_.out_write) end.reset();
  for (int fd : inherited_) ::close(fd);
  inherited_.clear();
  set_nonblocking(pipes_.in_write.get());
  for (auto& end : pipes_.out_read) set_nonblocking(end.get());
  return {};
}

// One user, mapped to itself: all that a process without privilege may do, and all that files need.
void Supervisor::map_user(pid_t init) {
  std::string base = "/proc/" + std::to_string(init) + "/";
  auto line = [](unsigned id) { return std::to_string(id) + " " + std::to_string(id) + " 1\n"; };
  auto put = [&](const char* file, const std::string& text) {
    UniqueFd fd(::open((base + file).c_str(), O_WRONLY | O_CLOEXEC));
    if (fd.valid()) (void)!::write(fd.get(), text.data(), text.size());
  };
  put("setgroups", "deny");
  put("uid_map", line(::geteuid()));
  put("gid_map", line(::getegid()));
}

void Supervisor::become_init(StandardPipes& pipes, int go) {
  char byte;
  if (::read(go, &byte, 1) != 1) ::_exit(125);
  ::dup2(pipes.in_read.get(), 0);
  ::dup2(pipes.out_write[0].get(), 1);
  ::dup2(pipes.out_write[1].get(), 2);
  run_init(plan_.init);
}

Result<void> Supervisor::write_pod_file() {
  if (plan_.init.preload.empty() && !plan_.init.program) return {};
  if (plan_.place.segment.empty() || !namespace_) return {};
  PodFile file{};
  file.magic = kPodFileMagic;
  file.pod = plan_.place.pod;
  file.member = plan_.place.member;
  snprintf(file.segment, sizeof file.segment, "%s", plan_.place.segment.c_str());
  auto claimed = claim_pod_file(namespace_, file);
  if (!claimed) return claimed.error();
  pod_file_ = std::move(*claimed);
  return {};
}

void Supervisor::handle_child() {
  signalfd_siginfo info;
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
  }
  int status;
  for (pid_t ended; (ended = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    if (ended != init_) continue;
    handle_report();
    if (!announced_) handle_started();
    if (status_ < 0) status_ = SIGKILL;  // the whole pod was killed before the program's end was told
    pod_ended();
  }
}

void Supervisor::handle_report() {
  for (;;) {
    InitReport message;
    iovec part{&message, sizeof message};
    alignas(cmsghdr) char space[CMSG_SPACE(sizeof(ucred))];
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = space;
    header.msg_controllen = sizeof space;
    if (::recvmsg(report_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != sizeof message) return;
    if (message.kind == InitReport::kForked) {
      cmsghdr* c = CMSG_FIRSTHDR(&header);
      ucred sender{};
      if (c && c->cmsg_type == SCM_CREDENTIALS) memcpy(&sender, CMSG_DATA(c), sizeof sender);
      program_pid_ = sender.pid;
      restoree_number_ = message.value;
      program_.reset(static_cast<int>(::syscall(SYS_pidfd_open, sender.pid, 0)));
    }
    if (message.kind == InitReport::kNoExec) exec_error_ = message.value;
    if (message.kind == InitReport::kBroken) broken_ = message.value;
    if (message.kind == InitReport::kEnded) {
      status_ = message.value;
      if (!announced_) handle_started();
      if (exec_error_ || broken_ || departed_) continue;
      for (int stream : {0, 1}) read_output(stream);
      tell_end();
      program_.reset();
      program_pid_ = 0;
    }
  }
}

// exec is over, one way or the other.
void Supervisor::handle_started() {
  if (announced_) return;
  handle_report();
  if (announced_) return;
  announced_ = true;
  started_.reset();
  starting_.reset();
  if (broken_) {
    failed(125, std::string("cannot make the pod's namespaces: ") + strerror(broken_) + kAllowNamespaces);
  } else if (exec_error_) {
    bool missing = exec_error_ == ENOENT || exec_error_ == ENOTDIR;
    failed(missing ? 127 : 126, exec_problem(plan_.spec.command[0], exec_error_));
  } else {
    ready();
    return;
  }
  detached_ = false;  // nothing to keep
}

void Supervisor::ready() {
  Client& first = clients_.front();
  if (restoree_.valid()) first.pass = std::move(restoree_);
  queue(first, FrameKind::kReady, facts());
}

void Supervisor::failed(int status, const std::string& text) {
  if (clients_.empty()) return;
  Client& first = clients_.front();
  queue(first, FrameKind::kFailed, pack_i32(status) + text);
  first.closing = true;
  foreground_ = nullptr;
  console_.leave();
}

void Supervisor::pod_ended() {
  pod_over_ = true;
  held_ = false;
  report_.reset();
  if (departed_) {
    done_ = true;
    return;
  }
  for (int stream : {0, 1}) {
    while (pipes_.out_read[stream].valid()) read_output(stream);  // every writer is gone: it ends with its last byte
  }
  tell_end();
}

void Supervisor::send_signal(int sig, bool group) {
  if (sig < 1 || sig >= NSIG) return;
  if (program_.valid() && group && ::kill(-program_pid_, sig) == 0) return;
  if (program_.valid()) ::syscall(SYS_pidfd_send_signal, program_.get(), sig, nullptr, 0);
  else if (end_told_ && !pod_over_) ::kill(init_, sig);  // see stand_in_for_the_program()
}

}  // namespace godwit::wrapper
