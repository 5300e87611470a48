// What must stay true: neither direction waits for the other, so a program that writes much before it reads its
// input does not stop both; and what the program wrote is written before its status is returned.
#include "wrapper/relay.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "wrapper/control_channel.hh"

namespace godwit::wrapper {
namespace {

constexpr size_t kBacklog = 128 << 10;

class Relay {
 public:
  Relay(UniqueFd channel, const FollowPod& follow) : channel_(std::move(channel)), follow_(follow) {}
  int run();

 private:
  void set_nonblocking() { ::fcntl(channel_.get(), F_SETFL, ::fcntl(channel_.get(), F_GETFL) | O_NONBLOCK); }
  void pass_signals();
  void read_input();
  void flush();
  bool read_channel();
  bool handle(FrameKind kind, const std::string& payload);
  void print(int fd, const std::string& bytes);

  UniqueFd channel_;
  const FollowPod& follow_;
  UniqueFd signals_;
  std::string in_, out_;
  bool input_open_ = true;
  int status_ = 125;
};

int Relay::run() {
  sigset_t set = relayed_signals();
  signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  set_nonblocking();
  if (::fcntl(0, F_GETFD) < 0) input_open_ = false;
  if (!input_open_) out_ += frame(FrameKind::kInputEnd, "");
  for (;;) {
    short channel_events = static_cast<short>(POLLIN | (out_.empty() ? 0 : POLLOUT));
    pollfd set_of[3] = {{channel_.get(), channel_events, 0},
                        {signals_.get(), POLLIN, 0},
                        {input_open_ && out_.size() < kBacklog ? 0 : -1, POLLIN, 0}};
    if (::poll(set_of, 3, -1) < 0) continue;
    if (set_of[1].revents) pass_signals();
    if (set_of[2].revents) read_input();
    if (!out_.empty()) flush();
    if (set_of[0].revents & (POLLIN | POLLHUP | POLLERR))
      if (!read_channel()) return status_;
  }
}

void Relay::pass_signals() {
  signalfd_siginfo info;
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    // From the terminal it was meant for the whole foreground group.
    bool group = info.ssi_code == SI_KERNEL;
    out_ += frame(FrameKind::kSignal, pack_i32(static_cast<int32_t>(info.ssi_signo)) + std::string(1, group ? 1 : 0));
  }
}

void Relay::read_input() {
  char bytes[64 << 10];
  ssize_t n = ::read(0, bytes, sizeof bytes);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n <= 0) {
    input_open_ = false;
    out_ += frame(FrameKind::kInputEnd, "");
  } else {
    out_ += frame(FrameKind::kInput, std::string(bytes, static_cast<size_t>(n)));
  }
}

void Relay::flush() {
  while (!out_.empty()) {
    ssize_t n = ::send(channel_.get(), out_.data(), out_.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      if (errno != EAGAIN) out_.clear();  // the reading side tells why
      return;
    }
    out_.erase(0, static_cast<size_t>(n));
  }
}

bool Relay::read_channel() {
  char bytes[64 << 10];
  ssize_t n = ::recv(channel_.get(), bytes, sizeof bytes, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (n <= 0) return false;
  in_.append(bytes, static_cast<size_t>(n));
  FrameKind kind;
  std::string payload;
  int taken;
  while ((taken = take_frame(in_, &kind, &payload)) == 1)
    if (!handle(kind, payload)) return false;
  return taken == 0;
}

bool Relay::handle(FrameKind kind, const std::string& payload) {
  switch (kind) {
    case FrameKind::kOutput: print(1, payload); return true;
    case FrameKind::kError: print(2, payload); return true;
    case FrameKind::kExit: {
      int status = unpack_i32(payload);
      status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      return false;
    }
    case FrameKind::kGone: {
      UniqueFd next = follow_ ? follow_(payload) : UniqueFd();
      if (!next.valid()) return false;
      channel_ = std::move(next);
      in_.clear();
      out_ = frame(FrameKind::kAttach, "") + out_;
      if (!input_open_) out_ += frame(FrameKind::kInputEnd, "");
      set_nonblocking();
      return true;
    }
    default: return true;
  }
}

void Relay::print(int fd, const std::string& bytes) {
  for (size_t done = 0; done < bytes.size();) {
    ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      pollfd p{fd, POLLOUT, 0};
      ::poll(&p, 1, -1);
      continue;
    }
    if (n < 0) {  // our reader is gone: the program learns it as it would alone
      out_ += frame(FrameKind::kCloseOutput, std::string(1, static_cast<char>(fd)));
      return;
    }
    done += static_cast<size_t>(n);
  }
}

}  // namespace

sigset_t relayed_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int sig : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH, SIGCONT, SIGVTALRM, SIGPROF}) {
    struct sigaction action;
    // Blocked signals are queued even if ignored, so the ignored ones must be left out.
    if (::sigaction(sig, nullptr, &action) == 0 && action.sa_handler != SIG_IGN) sigaddset(&set, sig);
  }
  return set;
}

int relay(UniqueFd channel, const FollowPod& follow) { return Relay(std::move(channel), follow).run(); }

}  // namespace godwit::wrapper
