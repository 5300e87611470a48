// What must stay true: nothing of it waits for one thing alone, so signals pass whatever else is stuck; more of the
// program's output is read only when the last has been written, and its status is returned after all of it.
#include "wrapper/relay.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "wrapper/control_channel.hh"
#include "wrapper/conversation.hh"

namespace godwit::wrapper {
namespace {

constexpr size_t kInputBacklog = 64 << 10;
constexpr int kAskAgain = 10'000;  // ms; a supervisor elsewhere must know that we are there
constexpr int kTryAgain = 100;     // ms

int exit_status(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

// Our stdout or stderr. A write of at most `part` bytes, when poll says that there is room, does not wait.
struct Outlet {
  explicit Outlet(int number) : fd(number) {
    struct stat st;
    if (::fstat(fd, &st) != 0) return;
    if (S_ISREG(st.st_mode)) part = SIZE_MAX;
    if (!S_ISFIFO(st.st_mode)) return;
    // An open file description of our own: the pipe's other users need not know of O_NONBLOCK.
    own.reset(::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    if (!own.valid()) return;
    fd = own.get();
    part = SIZE_MAX;
  }
  int fd;
  UniqueFd own;
  size_t part = PIPE_BUF;
  bool closed = false;  // nobody reads it
};

class Relay {
 public:
  Relay(UniqueFd channel, const FollowPod& follow) : channel_(std::move(channel)), follow_(follow) {}
  int run();

 private:
  void set_nonblocking() { ::fcntl(channel_.get(), F_SETFL, ::fcntl(channel_.get(), F_GETFL) | O_NONBLOCK); }
  void follow();
  void poll_once();
  void pass_signals();
  void read_input();
  void add_word(FrameKind kind, const std::string& payload);
  void ask();
  void flush();
  bool read_channel();
  void handle(FrameKind kind, const std::string& payload);
  void take_news(const News& news);
  Outlet& outlet() { return output_.front().first == FrameKind::kOutput ? stdout_ : stderr_; }
  void write_output();

  UniqueFd channel_;
  const FollowPod& follow_;
  UniqueFd signals_;
  std::string in_, out_;
  Ask ask_;              // all that has not been taken yet
  bool waiting_ = false; // for the answer to the last ask
  bool fresh_ = true;    // there is something that no ask has said
  std::deque<std::pair<FrameKind, std::string>> output_;
  size_t written_ = 0;   // bytes of the first
  Outlet stdout_{1}, stderr_{2};
  std::optional<int> status_;
};

int Relay::run() {
  sigset_t set = relayed_signals();
  signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  set_nonblocking();
  ask_.input_ended = ::fcntl(0, F_GETFD) < 0;
  while (!status_ || !output_.empty()) {
    if (!channel_.valid() && !status_) follow();
    ask();
    poll_once();
  }
  return *status_;
}

void Relay::follow() {
  channel_ = follow_ ? follow_() : UniqueFd();
  if (!follow_) status_ = 125;
  if (channel_.valid()) set_nonblocking();
  in_.clear();
  out_.clear();
  fresh_ = true;
}

void Relay::poll_once() {
  bool reads = !ask_.input_ended && ask_.input.size() < kInputBacklog;
  short channel_events = static_cast<short>((output_.empty() ? POLLIN : 0) | (out_.empty() ? 0 : POLLOUT));
  int output = output_.empty() ? -1 : outlet().fd;
  pollfd set[4] = {{channel_.get(), channel_events, 0}, {signals_.get(), POLLIN, 0}, {reads ? 0 : -1, POLLIN, 0},
                   {output, POLLOUT, 0}};
  int ready = ::poll(set, 4, channel_.valid() ? kAskAgain : kTryAgain);
  if (ready < 0) return;
  if (ready == 0) fresh_ = true;
  if (set[1].revents) pass_signals();
  if (set[2].revents) read_input();
  if (set[3].revents) write_output();
  if (!out_.empty()) flush();
  // What has come over a channel that is broken comes again.
  if (set[0].revents & POLLIN ? !read_channel() : set[0].revents & (POLLHUP | POLLERR)) channel_.reset();
}

void Relay::pass_signals() {
  signalfd_siginfo info;
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    // From the terminal it was meant for the whole foreground group.
    bool group = info.ssi_code == SI_KERNEL;
    add_word(FrameKind::kSignal, pack_i32(static_cast<int32_t>(info.ssi_signo)) + std::string(1, group ? 1 : 0));
  }
}

void Relay::add_word(FrameKind kind, const std::string& payload) {
  ask_.words += frame(kind, payload);
  fresh_ = true;
}

void Relay::read_input() {
  char bytes[64 << 10];
  ssize_t n = ::read(0, bytes, kInputBacklog - ask_.input.size());
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  // What is on its way is answered when there is room for more.
  fresh_ |= ask_.input.empty() || n <= 0;
  if (n <= 0) ask_.input_ended = true;
  else ask_.input.append(bytes, static_cast<size_t>(n));
}

void Relay::ask() {
  if (!channel_.valid() || !out_.empty() || (waiting_ && !fresh_)) return;
  ask_.serial++;
  waiting_ = true;
  fresh_ = false;
  out_ = frame(FrameKind::kAsk, encode(ask_));
  flush();
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
  while ((taken = take_frame(in_, &kind, &payload)) == 1) handle(kind, payload);
  return taken == 0;
}

void Relay::handle(FrameKind kind, const std::string& payload) {
  if (kind == FrameKind::kGone && !status_) status_ = 125;
  if (kind != FrameKind::kNews) return;
  if (auto news = decode_news(payload)) take_news(*news);
}

void Relay::take_news(const News& news) {
  if (news.serial == ask_.serial) waiting_ = false;
  FrameKind kind;
  std::string payload;
  for (; ask_.word < news.words_taken; ++ask_.word) take_frame(ask_.words, &kind, &payload);
  if (news.input_taken > ask_.input_at) {
    ask_.input.erase(0, news.input_taken - ask_.input_at);
    ask_.input_at = news.input_taken;
  }
  if (news.first > ask_.heard)
    output_.emplace_back(FrameKind::kError, "godwit run: some output could not be brought here in time; see godwit logs\n");
  ask_.heard = std::max(ask_.heard, news.first);
  std::string bytes = news.frames;
  for (uint64_t number = news.first; take_frame(bytes, &kind, &payload) == 1; ++number) {
    if (number < ask_.heard) continue;
    ask_.heard = number + 1;
    if (kind == FrameKind::kExit) status_ = exit_status(unpack_i32(payload));
    else output_.emplace_back(kind, std::move(payload));
  }
  ask();  // the next may come while we write
}

void Relay::write_output() {
  const std::string& bytes = output_.front().second;
  Outlet& to = outlet();
  size_t part = std::min(bytes.size() - written_, to.part);
  ssize_t n = to.closed ? static_cast<ssize_t>(part) : ::write(to.fd, bytes.data() + written_, part);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n < 0) {  // our reader is gone: the program learns it as it would alone
    to.closed = true;
    return add_word(FrameKind::kCloseOutput, std::string(1, &to == &stdout_ ? 1 : 2));
  }
  written_ += static_cast<size_t>(n);
  if (written_ < bytes.size()) return;
  output_.pop_front();
  written_ = 0;
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
