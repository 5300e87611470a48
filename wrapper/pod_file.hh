// How a preloaded program learns which segment it lives in, without environment variables that it could
// clear: a file named after its PID namespace. The supervisor writes it before the program starts and
// removes it when the pod ends. No file: the wrapper stays dormant and passes every call on.
#pragma once
#include <sys/stat.h>

#include <cstdint>
#include <cstdio>

namespace godwit::wrapper {

inline constexpr uint64_t kPodFileMagic = 0x31304f50444f4757;  // "WGODPO01"

/// The file's bytes, as they stand. Mode 0600.
struct PodFile {
  uint64_t magic;
  uint64_t pod;      // id in the directory
  uint32_t member;   // index in the segment's table
  uint32_t unused;
  char segment[128]; // name in /dev/shm, ends with 0
};

/// The path for the PID namespace with this inode.
inline void pod_file_path(uint64_t inode, char (&path)[64]) {
  snprintf(path, sizeof path, "/dev/shm/godwit-pod-%llu", static_cast<unsigned long long>(inode));
}

/// The inode of a process's PID namespace; 0 if it cannot be told. proc: "/proc/self" or "/proc/PID".
inline uint64_t pid_namespace_inode(const char* proc) {
  char path[64];
  snprintf(path, sizeof path, "%s/ns/pid", proc);
  struct stat st;
  return ::stat(path, &st) == 0 ? st.st_ino : 0;
}

}  // namespace godwit::wrapper
