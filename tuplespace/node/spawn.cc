#include "tuplespace/node/spawn.hh"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace godwit {
namespace {

void default_signals() {
  for (int signo = 1; signo < NSIG; ++signo) signal(signo, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Of a library: beside it, as in the folder of a build, or where its installation has put it.
std::string find_executable() {
  Dl_info library;
  if (dladdr(reinterpret_cast<void*>(&find_executable), &library) == 0 || !library.dli_fname) return "";
  std::string folder = library.dli_fname;
  folder.erase(std::min(folder.rfind('/'), folder.size()));
  for (const char* place : {"/godwit", "/../bin/godwit", "/../../bin/godwit", "/../../../bin/godwit"})
    if (access((folder + place).c_str(), X_OK) == 0) return folder + place;
  return "/usr/bin/godwit";
}

bool is_godwit = false;

}  // namespace

void this_is_godwit() { is_godwit = true; }

const char* godwit_executable() {
  static const std::string found = is_godwit ? "/proc/self/exe" : find_executable();
  const char* named = std::getenv("GODWIT_EXECUTABLE");
  return named && *named ? named : found.c_str();
}

void become_daemon(int keep, int log) {
  default_signals();
  setsid();
  if (chdir("/") != 0) _exit(125);
  int null = open("/dev/null", O_RDWR);
  dup2(null, 0);
  dup2(log >= 0 ? log : null, 1);
  dup2(log >= 0 ? log : null, 2);
  if (keep < 3) {
    close_range(3, ~0U, 0);
    return;
  }
  if (keep > 3) close_range(3, static_cast<unsigned>(keep) - 1, 0);
  close_range(static_cast<unsigned>(keep) + 1, ~0U, 0);
}

// Twice forked, so that init adopts it. Between fork and exec only calls that are safe there.
Result<void> spawn_detached(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const char* executable = godwit_executable();
  pid_t child = fork();
  if (child < 0) return errno_error("starting godwit " + words.back());
  if (child == 0) {
    if (fork() != 0) _exit(0);
    become_daemon(-1, -1);
    execv(executable, argv.data());
    _exit(127);
  }
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {}
  return {};
}

}  // namespace godwit
