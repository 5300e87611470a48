// How a supervisor comes to be: `godwit supervise`, executed by start_supervisor, child of nobody. What must stay true: between
// fork and exec nothing but system calls, for a node that starts one has threads.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "wrapper/supervisor_parts.hh"

namespace godwit::wrapper {
namespace {

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

// Words: directory, client descriptor, starting descriptor, attach, segment, member, pod, program PID, two clock offsets, reason,
// then argv. Between our own two halves only.
int supervise_command(const std::vector<std::string>& arguments) {
  constexpr size_t kWords = 11;
  if (arguments.size() < kWords) return 2;
  SupervisorPlan plan;
  plan.directory = arguments[0];
  plan.client = std::atoi(arguments[1].c_str());
  plan.starting = std::atoi(arguments[2].c_str());
  plan.attach = arguments[3] == "1";
  plan.place = {arguments[4], static_cast<uint32_t>(std::strtoul(arguments[5].c_str(), nullptr, 10)),
                std::strtoull(arguments[6].c_str(), nullptr, 10)};
  plan.init.program = std::atoi(arguments[7].c_str());
  plan.init.monotonic_offset = std::strtoll(arguments[8].c_str(), nullptr, 10);
  plan.init.boottime_offset = std::strtoll(arguments[9].c_str(), nullptr, 10);
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
                                    bool attach, const Arrival& arrival, uint64_t signal_mask, int starting) {
  if (!write_file(directory + "/spec", format_spec(spec))) return errno_error("cannot write " + directory + "/spec");
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return errno_error("cannot make a socket pair");
  Supervised result;
  result.channel.reset(pair[0]);
  UniqueFd theirs(pair[1]);
  std::vector<std::string> words = {"godwit", "supervise", directory, std::to_string(theirs.get()), std::to_string(starting),
                                    attach ? "1" : "0", place.segment, std::to_string(place.member), std::to_string(place.pod),
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
    ::fcntl(starting, F_SETFD, 0);
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &signal_mask, nullptr, 8);
    ::execv("/proc/self/exe", argv.data());
    ::_exit(125);
  }
  theirs.reset();
  while (::waitpid(middle, nullptr, 0) < 0 && errno == EINTR) {
  }
  auto answer = receive_frame(result.channel.get());
  if (!answer) return make_error(std::errc::state_not_recoverable, "the pod's supervisor was killed before its program ran; run it again");
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
