// fork, vfork, spawning and syscall. docs/socket_calls.md#processes
//
// vfork is fork: a child that shares our memory would change the parent's table when it closes and
// duplicates descriptors (POSIX lets vfork be fork). posix_spawn, system and popen start their child inside
// libc, out of our sight; the child execs at once, so it only has to be known that copies exist.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "wrapper/descriptors.hh"
#include "wrapper/fork.hh"

namespace godwit::wrapper {

WRAPPER_EXPORT pid_t fork() noexcept { return fork_with(libc().fork); }
WRAPPER_ALIAS(__fork, fork);
WRAPPER_ALIAS(vfork, fork);
WRAPPER_ALIAS(__vfork, fork);

WRAPPER_EXPORT pid_t _Fork() noexcept { return fork_with(libc()._Fork); }

WRAPPER_EXPORT int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                               const posix_spawnattr_t* attributes, char* const argv[], char* const envp[]) {
  if (awake()) share_descriptors();
  return libc().posix_spawn(pid, path, actions, attributes, argv, envp);
}

WRAPPER_EXPORT int posix_spawnp(pid_t* pid, const char* file, const posix_spawn_file_actions_t* actions,
                                const posix_spawnattr_t* attributes, char* const argv[], char* const envp[]) {
  if (awake()) share_descriptors();
  return libc().posix_spawnp(pid, file, actions, attributes, argv, envp);
}

WRAPPER_EXPORT int system(const char* command) {
  if (awake()) share_descriptors();
  return libc().system(command);
}

WRAPPER_EXPORT FILE* popen(const char* command, const char* mode) {
  if (awake()) share_descriptors();
  return libc().popen(command, mode);
}

// glibc's forks inside, where we would not see it.
WRAPPER_EXPORT int daemon(int keep_directory, int keep_stdio) noexcept {
  pid_t child = fork();
  if (child < 0) return -1;
  if (child > 0) _exit(0);
  if (setsid() < 0) return -1;
  if (!keep_directory && chdir("/") != 0) return -1;
  if (keep_stdio) return 0;
  int null = open("/dev/null", O_RDWR);
  if (null < 0) return -1;
  for (int fd = 0; fd < 3; ++fd) dup2(null, fd);
  if (null > 2) close(null);
  return 0;
}

// Raw system calls pass, whatever their number, except that there is no io_uring: it would act on
// descriptors of ours where nobody can see it, and programs fall back.
WRAPPER_EXPORT long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& argument : a) argument = va_arg(list, long);
  va_end(list);
  if (number == SYS_io_uring_setup && awake()) {
    errno = ENOSYS;
    return -1;
  }
  return libc().syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

}  // namespace godwit::wrapper
