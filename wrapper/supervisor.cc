// One thread, one poll loop. What must stay true: a client that sends nonsense, or reads slowly, or goes away
// hurts itself only; but a foreground that reads slowly holds the program up, as a terminal would. A foreground on
// another host that is silent for kLease does so no longer: it may have died with its host.
#include "wrapper/supervisor.hh"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <list>

#include "wrapper/control_channel.hh"
#include "wrapper/conversation.hh"
#include "wrapper/pod_file.hh"

namespace godwit::wrapper {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kOutputBacklog = 512 << 10;  // bytes that the foreground has not heard before the program waits
constexpr size_t kInputBacklog = 64 << 10;
constexpr auto kLease = std::chrono::seconds(60);

struct Client {
  UniqueFd fd;
  std::string in, out;
  UniqueFd pass;        // descriptor that goes with the first byte of `out`
  bool closing = false, dead = false;
};

struct Pipes {
  UniqueFd in_read, in_write, out_read[2], out_write[2];
};

Result<void> make_pipe(UniqueFd& read_end, UniqueFd& write_end) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("cannot make a pipe");
  read_end.reset(ends[0]);
  write_end.reset(ends[1]);
  return {};
}

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

// A pipe can be opened through either end.
UniqueFd other_end(const UniqueFd& end, int mode) {
  std::string path = "/proc/self/fd/" + std::to_string(end.get());
  return UniqueFd(::open(path.c_str(), mode | O_NONBLOCK | O_CLOEXEC));
}

bool write_file(const std::string& path, const std::string& text) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  return fd.valid() && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

std::vector<int> open_descriptors() {
  std::vector<int> found;
  DIR* folder = ::opendir("/proc/self/fd");
  if (!folder) return found;
  while (dirent* entry = ::readdir(folder)) {
    int fd = std::atoi(entry->d_name);
    if (fd > 2 && fd != ::dirfd(folder)) found.push_back(fd);
  }
  ::closedir(folder);
  return found;
}

class Supervisor {
 public:
  explicit Supervisor(SupervisorPlan plan) : plan_(std::move(plan)) {}
  int run();

 private:
  Result<void> prepare();
  Result<void> listen_control();
  Result<void> start_init();
  void map_user(pid_t init);
  void become_init(Pipes& pipes, int go);
  void write_pod_file();
  void loop();
  void poll_once();
  void forget_dead();
  void handle_child();
  void handle_report();
  void handle_started();
  void accept_client();
  void read_client(Client& client);
  void handle(Client& client, FrameKind kind, const std::string& payload);
  void send_signal(int sig, bool group);
  void hold(uint64_t pod, Client& client);
  void take(const std::string& held, Client& client);
  void take_input_back();
  void converse();
  bool take_words();
  bool take_input();
  void say(FrameKind kind, const std::string& payload);
  void tell_end();
  void foreground_left();
  bool foreground_silent() const;
  int patience() const;
  void queue(Client& client, FrameKind kind, const std::string& payload);
  void flush(Client& client);
  void read_output(int stream);
  void feed_input();
  void close_output(int stream);
  void ready();
  void failed(int status, const std::string& text);
  void pod_ended();
  void finish_clients();
  bool throttled() const;
  std::string facts() const;

  SupervisorPlan plan_;
  std::list<Client> clients_;
  Pipes pipes_;
  UniqueFd control_, signals_, report_, started_, log_, program_, restoree_, user_go_;
  std::vector<int> inherited_;
  Console console_;
  Client* foreground_ = nullptr;  // while it is on this host and has come with the pod
  Client* asker_ = nullptr;       // waits for the answer to ask_
  Ask ask_;
  Clock::time_point heard_;       // the last ask
  pid_t init_ = 0, program_pid_ = 0;
  int restoree_number_ = -1;  // arrival: of its end of the control socket pair, in it
  uint64_t namespace_ = 0;
  std::string pod_file_;
  int exec_error_ = 0, broken_ = 0, status_ = -1;
  bool announced_ = false, held_ = false, departed_ = false, pod_over_ = false, end_told_ = false, done_ = false;
  bool detached_ = false;
};

int Supervisor::run() {
  inherited_ = open_descriptors();
  std::erase(inherited_, plan_.client);
  ::fcntl(plan_.client, F_SETFD, FD_CLOEXEC);
  set_nonblocking(plan_.client);
  clients_.emplace_back();
  clients_.back().fd.reset(plan_.client);
  if (plan_.attach) foreground_ = &clients_.back();
  console_.attached = plan_.attach;
  detached_ = !plan_.attach;
  if (auto prepared = prepare(); !prepared) {
    failed(125, prepared.error().message());
    finish_clients();
    remove_pod_directory(plan_.directory);
    return 125;
  }
  loop();
  return 0;
}

Result<void> Supervisor::prepare() {
  plan_.init.preload = plan_.spec.reason.empty() ? wrapper_library() : "";
  if (plan_.spec.reason.empty() && plan_.init.preload.empty())
    return make_error(std::errc::no_such_file_or_directory, "libgodwit-wrapper.so is not beside this executable");
  sigset_t watched;
  sigemptyset(&watched);
  for (int sig : {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGPIPE}) sigaddset(&watched, sig);
  ::sigprocmask(SIG_BLOCK, &watched, nullptr);
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  signals_.reset(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
  if (auto ok = listen_control(); !ok) return ok;
  std::string log = plan_.directory + "/log";
  log_.reset(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!log_.valid()) return errno_error("cannot write " + log);
  return start_init();
}

Result<void> Supervisor::listen_control() {
  auto control = listen_in(plan_.directory, "control");
  if (!control) return control.error();
  control_ = std::move(*control);
  return {};
}

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
    return errno_error("cannot make a PID namespace; as another user than root this needs user namespaces");
  if (flags & CLONE_NEWUSER) map_user(init_);
  char path[32];
  snprintf(path, sizeof path, "/proc/%d", init_);
  namespace_ = pid_namespace_inode(path);
  write_pod_file();
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

void Supervisor::become_init(Pipes& pipes, int go) {
  char byte;
  if (::read(go, &byte, 1) != 1) ::_exit(125);
  ::dup2(pipes.in_read.get(), 0);
  ::dup2(pipes.out_write[0].get(), 1);
  ::dup2(pipes.out_write[1].get(), 2);
  run_init(plan_.init);
}

void Supervisor::write_pod_file() {
  if (plan_.init.preload.empty() && !plan_.init.program) return;
  if (plan_.place.segment.empty() || !namespace_) return;
  PodFile file{};
  file.magic = kPodFileMagic;
  file.pod = plan_.place.pod;
  file.member = plan_.place.member;
  snprintf(file.segment, sizeof file.segment, "%s", plan_.place.segment.c_str());
  char path[64];
  pod_file_path(namespace_, path);
  ::unlink(path);  // namespace inodes are used again
  if (write_file(path, std::string(reinterpret_cast<const char*>(&file), sizeof file))) pod_file_ = path;
}

bool Supervisor::throttled() const { return console_.unheard() > kOutputBacklog && !foreground_silent(); }

bool Supervisor::foreground_silent() const { return !foreground_ && Clock::now() - heard_ >= kLease; }

// Until a foreground elsewhere counts as silent.
int Supervisor::patience() const {
  if (!console_.attached || foreground_ || foreground_silent()) return -1;
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(heard_ + kLease - Clock::now()).count());
}

void Supervisor::loop() {
  while (!done_) {
    poll_once();
    converse();
    for (Client& client : clients_)
      if (!client.dead && !client.out.empty()) flush(client);
    forget_dead();
    if (pod_over_ && (!console_.unheard() || foreground_silent())) done_ = true;
  }
  if (!departed_) finish_clients();
  if (!pod_file_.empty()) ::unlink(pod_file_.c_str());
  if (detached_ && !departed_) {
    write_file(plan_.directory + "/status", std::to_string(status_) + "\n");
    ::unlink((plan_.directory + "/control").c_str());
  } else {
    remove_pod_directory(plan_.directory);
  }
  clients_.clear();  // now everybody knows
}

void Supervisor::forget_dead() {
  for (const Client& client : clients_) {
    if (!client.dead) continue;
    if (&client == asker_) asker_ = nullptr;
    if (&client != foreground_) continue;
    foreground_ = nullptr;
    foreground_left();
  }
  clients_.remove_if([](const Client& c) { return c.dead; });
}

void Supervisor::poll_once() {
  std::vector<pollfd> set;
  std::vector<Client*> owners;
  auto add = [&](int fd, short events) {
    set.push_back({fd, events, 0});
    owners.push_back(nullptr);
    return set.size() - 1;
  };
  add(signals_.get(), POLLIN);
  add(control_.get(), POLLIN);
  add(report_.get(), POLLIN);
  size_t started = add(started_.get(), POLLIN);
  bool slow = throttled() || held_ || !announced_;  // kReady is the first that a client hears
  size_t out = add(slow ? -1 : pipes_.out_read[0].get(), POLLIN);
  size_t err = add(slow ? -1 : pipes_.out_read[1].get(), POLLIN);
  size_t in = add(console_.input.empty() || held_ ? -1 : pipes_.in_write.get(), POLLOUT);
  for (Client& client : clients_) {
    short events = client.out.empty() ? 0 : POLLOUT;
    if (!client.closing) events |= POLLIN;
    set.push_back({client.fd.get(), events, 0});
    owners.push_back(&client);
  }
  if (::poll(set.data(), set.size(), patience()) < 0) return;
  // What the program wrote before it ended is passed on before its end is told.
  if (set[out].revents) read_output(0);
  if (set[err].revents) read_output(1);
  if (set[in].revents) feed_input();
  if (set[2].revents) handle_report();
  if (set[started].revents) handle_started();
  for (size_t i = 0; i < set.size(); ++i)
    if (owners[i] && (set[i].revents & (POLLIN | POLLHUP | POLLERR))) read_client(*owners[i]);
  if (set[1].revents) accept_client();
  if (set[0].revents) handle_child();
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
  if (broken_) {
    failed(125, std::string("cannot make the pod's namespaces: ") + strerror(broken_));
  } else if (exec_error_) {
    bool missing = exec_error_ == ENOENT || exec_error_ == ENOTDIR;
    failed(missing ? 127 : 126, plan_.spec.command[0] + ": " + strerror(exec_error_));
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

void Supervisor::tell_end() {
  if (!std::exchange(end_told_, true)) say(FrameKind::kExit, pack_i32(status_));
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

void Supervisor::finish_clients() {
  for (Client& client : clients_) {
    int flags = ::fcntl(client.fd.get(), F_GETFL);
    ::fcntl(client.fd.get(), F_SETFL, flags & ~O_NONBLOCK);
    timeval patience{5, 0};  // for a client that does not read
    ::setsockopt(client.fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    while (!client.dead && !client.out.empty()) flush(client);
  }
}

void Supervisor::accept_client() {
  int fd = ::accept4(control_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  clients_.emplace_back();
  clients_.back().fd.reset(fd);
}

void Supervisor::read_client(Client& client) {
  char bytes[64 << 10];
  ssize_t n = ::recv(client.fd.get(), bytes, sizeof bytes, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    client.dead = true;
    return;
  }
  client.in.append(bytes, static_cast<size_t>(n));
  FrameKind kind;
  std::string payload;
  int taken;
  while (!client.dead && (taken = take_frame(client.in, &kind, &payload)) == 1) handle(client, kind, payload);
  if (!client.dead && taken < 0) client.dead = true;
}

void Supervisor::handle(Client& client, FrameKind kind, const std::string& payload) {
  switch (kind) {
    case FrameKind::kFacts: return queue(client, FrameKind::kFactsReply, facts());
    case FrameKind::kSignal:
      if (payload.size() < 4) break;
      return send_signal(unpack_i32(payload), payload.size() > 4 && payload[4]);
    case FrameKind::kAsk: {
      auto ask = decode_ask(payload);
      if (!ask) break;
      if (ask->serial < ask_.serial) return;  // late: it was made again since
      ask_ = std::move(*ask);
      asker_ = &client;
      heard_ = Clock::now();
      return;
    }
    case FrameKind::kLeft: return foreground_left();
    case FrameKind::kHold: return hold(unpack_u64(payload), client);
    case FrameKind::kRelease:
      held_ = false;
      return feed_input();
    case FrameKind::kTake: return take(payload, client);
    case FrameKind::kEnd:
      ::kill(init_, SIGKILL);
      return;
    case FrameKind::kDeparted:
      departed_ = true;
      return;
    default: break;
  }
  client.dead = true;  // not a word of this language
}

void Supervisor::send_signal(int sig, bool group) {
  if (sig < 1 || sig >= NSIG) return;
  if (program_.valid() && group && ::kill(-program_pid_, sig) == 0) return;
  if (program_.valid()) ::syscall(SYS_pidfd_send_signal, program_.get(), sig, nullptr, 0);
}

// --- the foreground ------------------------------------------------------------------------------------------

void Supervisor::converse() {
  if (!asker_ || held_ || departed_ || !announced_) return;
  console_.heard(ask_.heard);
  bool taken = take_words();
  taken |= take_input();
  if (!taken && !console_.has_news(ask_)) return;
  queue(*asker_, FrameKind::kNews, encode(console_.news(ask_)));
  asker_ = nullptr;
}

bool Supervisor::take_words() {
  uint64_t before = console_.words_taken, number = ask_.word;
  FrameKind kind;
  std::string payload;
  while (take_frame(ask_.words, &kind, &payload) == 1) {
    if (number++ < console_.words_taken) continue;
    console_.words_taken++;
    if (kind == FrameKind::kSignal && payload.size() == 5) send_signal(unpack_i32(payload), payload[4]);
    if (kind == FrameKind::kCloseOutput && payload.size() == 1) close_output(payload[0] == 1 ? 0 : 1);
  }
  return console_.words_taken > before;
}

bool Supervisor::take_input() {
  uint64_t end = ask_.input_at + ask_.input.size();
  if (console_.input_taken < ask_.input_at || console_.input_taken > end) return false;
  size_t room = kInputBacklog - std::min(kInputBacklog, console_.input.size());
  std::string fresh = ask_.input.substr(console_.input_taken - ask_.input_at, room);
  console_.input += fresh;
  console_.input_taken += fresh.size();
  console_.input_ended |= ask_.input_ended && console_.input_taken == end;
  feed_input();
  return !fresh.empty();
}

void Supervisor::say(FrameKind kind, const std::string& payload) {
  if (!console_.attached) return;
  console_.say(frame(kind, payload));
  while (console_.unheard() > kOutputBacklog && foreground_silent()) console_.drop_oldest();
}

// A foreground `godwit run` that was killed leaves its pod running, detached.
void Supervisor::foreground_left() {
  if (console_.attached && !end_told_) detached_ = true;
  console_.leave();
}

// --- the pod on its way --------------------------------------------------------------------------------------

void Supervisor::hold(uint64_t pod, Client& client) {
  if (pod != plan_.place.pod) {
    client.dead = true;
    return;
  }
  held_ = true;
  for (int stream : {0, 1}) read_output(stream);
  take_input_back();
  queue(client, FrameKind::kHeld, encode(console_));
}

// What the program has not read; feed_input() gives it again.
void Supervisor::take_input_back() {
  if (pipes_.in_read.valid()) pipes_.in_write = other_end(pipes_.in_read, O_WRONLY);
  if (!pipes_.in_write.valid()) return;
  UniqueFd reader = other_end(pipes_.in_write, O_RDONLY);
  std::string unread;
  char bytes[64 << 10];
  for (ssize_t n; (n = ::read(reader.get(), bytes, sizeof bytes)) > 0;) unread.append(bytes, static_cast<size_t>(n));
  console_.input.insert(0, unread);
}

void Supervisor::take(const std::string& held, Client& client) {
  auto console = decode_console(held);
  if (!console) {
    client.dead = true;
    return;
  }
  console_ = std::move(*console);
  detached_ = !console_.attached;
  heard_ = Clock::now();
  for (int stream : {0, 1})
    if (console_.output_closed[stream]) close_output(stream);
  feed_input();
  queue(client, FrameKind::kTaken, "");
}

void Supervisor::queue(Client& client, FrameKind kind, const std::string& payload) { client.out += frame(kind, payload); }

void Supervisor::flush(Client& client) {
  while (!client.out.empty()) {
    iovec part{client.out.data(), client.out.size()};
    alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (client.pass.valid()) {
      message.msg_control = space;
      message.msg_controllen = sizeof space;
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      int fd = client.pass.get();
      memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    ssize_t n = ::sendmsg(client.fd.get(), &message, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN && !done_) return;
    if (n < 0) {
      client.dead = true;
      return;
    }
    client.pass.reset();
    client.out.erase(0, static_cast<size_t>(n));
  }
  if (client.closing) client.dead = true;
}

void Supervisor::read_output(int stream) {
  UniqueFd& fd = pipes_.out_read[stream];
  char bytes[64 << 10];
  while (fd.valid()) {
    ssize_t n = ::read(fd.get(), bytes, sizeof bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      if (!pod_over_) return;
      n = 0;  // somebody outside the pod was given the writing end: not waited for
    }
    if (n <= 0) return fd.reset();
    (void)!::write(log_.get(), bytes, static_cast<size_t>(n));
    say(stream ? FrameKind::kError : FrameKind::kOutput, std::string(bytes, static_cast<size_t>(n)));
    if (!pod_over_ && !held_ && status_ < 0) return;  // in turn with everything else
  }
}

void Supervisor::feed_input() {
  std::string& input = console_.input;
  while (!input.empty() && pipes_.in_write.valid()) {
    ssize_t n = ::write(pipes_.in_write.get(), input.data(), std::min<size_t>(input.size(), 64 << 10));
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) {  // EPIPE: the program closed its stdin
      pipes_.in_write.reset();
      break;
    }
    input.erase(0, static_cast<size_t>(n));
  }
  if (!pipes_.in_write.valid()) input.clear();
  if (!console_.input_ended || !pipes_.in_write.valid()) return;
  pipes_.in_read = other_end(pipes_.in_write, O_RDONLY);  // for take_input_back()
  pipes_.in_write.reset();
}

void Supervisor::close_output(int stream) {
  console_.output_closed[stream] = true;
  pipes_.out_read[stream].reset();
}

std::string Supervisor::facts() const {
  std::string text = format_spec(plan_.spec);
  auto add = [&](const char* key, uint64_t value) { text += std::string(key) + " " + std::to_string(value) + "\n"; };
  add("pod", plan_.place.pod);
  add("member", plan_.place.member);
  text += "segment " + percent_encode(plan_.place.segment) + "\n";
  add("init_pid", static_cast<uint64_t>(init_));
  add("program_pid", static_cast<uint64_t>(program_pid_));
  add("pid_namespace", namespace_);
  text += std::string("state ") + (plan_.init.program ? "arrived" : "running") + "\n";
  if (restoree_number_ >= 0) add("restoree", static_cast<uint64_t>(restoree_number_));
  if (status_ >= 0) add("status", static_cast<uint64_t>(status_));
  return text;
}

std::string executable_directory() {
  char path[4096];
  ssize_t n = ::readlink("/proc/self/exe", path, sizeof path);
  std::string exe(path, n > 0 ? static_cast<size_t>(n) : 0);
  return exe.substr(0, exe.rfind('/'));
}

}  // namespace

std::string wrapper_library() {
  std::string here = executable_directory();
  for (const char* place : {"/libgodwit-wrapper.so", "/../lib/libgodwit-wrapper.so", "/../lib/godwit/libgodwit-wrapper.so",
                            "/../lib/x86_64-linux-gnu/libgodwit-wrapper.so"}) {
    std::string path = here + place;
    if (char* real = ::realpath(path.c_str(), nullptr)) {
      path = real;
      ::free(real);
      return path;
    }
  }
  return "";
}

int supervise(SupervisorPlan plan) { return Supervisor(std::move(plan)).run(); }

// Words: directory, client descriptor, attach, segment, member, pod, program PID, two clock offsets, reason,
// then argv. Between our own two halves only.
int supervise_command(const std::vector<std::string>& arguments) {
  constexpr size_t kWords = 10;
  if (arguments.size() < kWords) return 2;
  SupervisorPlan plan;
  plan.directory = arguments[0];
  plan.client = std::atoi(arguments[1].c_str());
  plan.attach = arguments[2] == "1";
  plan.place = {arguments[3], static_cast<uint32_t>(std::strtoul(arguments[4].c_str(), nullptr, 10)),
                std::strtoull(arguments[5].c_str(), nullptr, 10)};
  plan.init.program = std::atoi(arguments[6].c_str());
  plan.init.monotonic_offset = std::strtoll(arguments[7].c_str(), nullptr, 10);
  plan.init.boottime_offset = std::strtoll(arguments[8].c_str(), nullptr, 10);
  UniqueFd file(::open((plan.directory + "/spec").c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(1 << 20, 0);
  ssize_t n = file.valid() ? ::read(file.get(), text.data(), text.size()) : -1;
  file.reset();
  auto spec = parse_spec(text.substr(0, n > 0 ? static_cast<size_t>(n) : 0));
  if (!spec) return 125;
  plan.spec = *spec;
  static std::vector<std::string> words;  // argv points into it until exec
  words.assign(arguments.begin() + kWords, arguments.end());
  for (std::string& word : words) plan.init.argv.push_back(word.data());
  plan.init.argv.push_back(nullptr);
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, nullptr, &plan.init.signal_mask, 8);
  struct sigaction pipe_action;
  ::sigaction(SIGPIPE, nullptr, &pipe_action);
  plan.init.ignore_pipe = pipe_action.sa_handler == SIG_IGN;
  ::signal(SIGPIPE, SIG_IGN);
  ::setsid();
  int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
  if (null > 2) ::close(null);
  return supervise(std::move(plan));
}

Result<Supervised> start_supervisor(const PodSpec& spec, const std::string& directory, const PodPlace& place,
                                    bool attach, const Arrival& arrival, uint64_t signal_mask) {
  if (!write_file(directory + "/spec", format_spec(spec))) return errno_error("cannot write " + directory + "/spec");
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return errno_error("cannot make a socket pair");
  Supervised result;
  result.channel.reset(pair[0]);
  UniqueFd theirs(pair[1]);
  std::vector<std::string> words = {"godwit", "supervise", directory, std::to_string(theirs.get()), attach ? "1" : "0",
                                    place.segment, std::to_string(place.member), std::to_string(place.pod),
                                    std::to_string(arrival.program), std::to_string(arrival.monotonic_offset),
                                    std::to_string(arrival.boottime_offset), spec.reason.empty() ? "-" : spec.reason};
  words.insert(words.end(), spec.command.begin(), spec.command.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t middle = ::fork();
  if (middle < 0) return errno_error("cannot fork");
  if (middle == 0) {  // nothing but system calls from here to exec: the caller may have threads
    if (::fork() != 0) ::_exit(0);
    ::fcntl(theirs.get(), F_SETFD, 0);
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &signal_mask, nullptr, 8);
    ::execv("/proc/self/exe", argv.data());
    ::_exit(125);
  }
  theirs.reset();
  while (::waitpid(middle, nullptr, 0) < 0 && errno == EINTR) {
  }
  auto answer = receive_frame(result.channel.get());
  if (!answer) return make_error(std::errc::state_not_recoverable, "the pod's supervisor did not start");
  if (answer->kind == FrameKind::kFailed) {
    result.status = unpack_i32(answer->payload);
    result.problem = answer->payload.substr(4);
    return result;
  }
  result.facts = answer->payload;
  result.restoree = std::move(answer->passed);
  return result;
}

}  // namespace godwit::wrapper
