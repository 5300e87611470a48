// Processes of a tutorial's program.
#pragma once
#include <sys/wait.h>
#include <unistd.h>

/// Starts a process that does the work and ends.
template <class Work>
pid_t start(Work work) {
  pid_t child = fork();
  if (child == 0) {
    work();
    _exit(0);
  }
  return child;
}

inline void wait_for(pid_t child) { waitpid(child, nullptr, 0); }
