// The loop: what is waited for, and in which order it is taken. What must stay true: a client that sends nonsense, or reads
// slowly, or goes away hurts itself only; but a foreground that reads slowly holds the program up, as a terminal would.
#include "wrapper/supervisor.hh"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "wrapper/pod_files.hh"
#include "wrapper/supervisor_parts.hh"

namespace godwit::wrapper {
namespace {

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

}  // namespace

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

bool write_file(const std::string& path, const std::string& text) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  return fd.valid() && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

int Supervisor::run() {
  inherited_ = open_descriptors();
  std::erase(inherited_, plan_.client);
  std::erase(inherited_, plan_.starting);
  ::fcntl(plan_.client, F_SETFD, FD_CLOEXEC);
  set_nonblocking(plan_.client);
  ::fcntl(plan_.starting, F_SETFD, FD_CLOEXEC);
  starting_.reset(plan_.starting);
  clients_.emplace_back();
  clients_.back().fd.reset(plan_.client);
  if (plan_.attach) foreground_ = &clients_.back();
  console_.attached = plan_.attach;
  detached_ = !plan_.attach;
  if (auto prepared = prepare(); !prepared) {
    const Error& error = prepared.error();
    failed(125, error.what.find("; ") == std::string::npos ? error.message() : error.what);
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
    return make_error(std::errc::no_such_file_or_directory, "libgodwit-wrapper.so is not beside this executable; install godwit as a whole");
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
  if (pod_file_.valid()) remove_pod_file(namespace_);
  if (detached_ && !departed_) {
    write_file(plan_.directory + "/status", std::to_string(status_) + "\n");
    ::unlink((plan_.directory + "/control").c_str());
  } else {
    remove_pod_directory(plan_.directory);
  }
  clients_.clear();  // now everybody knows
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

int supervise(SupervisorPlan plan) { return Supervisor(std::move(plan)).run(); }

}  // namespace godwit::wrapper
