#include "wrapper/program_kind.hh"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "tuplespace/posix/unique_fd.hh"

namespace godwit::wrapper {
namespace {

std::string find_in_path(const std::string& program) {
  if (program.find('/') != std::string::npos) return program;
  const char* path = std::getenv("PATH");
  std::string list = path ? path : "/bin:/usr/bin";
  for (size_t begin = 0; begin <= list.size();) {
    size_t end = std::min(list.find(':', begin), list.size());
    std::string directory = list.substr(begin, end - begin);
    std::string file = (directory.empty() ? "." : directory) + "/" + program;
    if (::access(file.c_str(), X_OK) == 0) return file;
    begin = end + 1;
  }
  return program;
}

// execve(2): the interpreter is the first word after "#!".
std::string interpreter(const char* head, size_t length) {
  std::string line(head + 2, length - 2);
  line = line.substr(0, line.find('\n'));
  size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string::npos) return "";
  return line.substr(begin, line.find_first_of(" \t", begin) - begin);
}

bool has_interpreter_segment(int fd, const Elf64_Ehdr& header) {
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    off_t at = static_cast<off_t>(header.e_phoff + i * sizeof segment);
    if (::pread(fd, &segment, sizeof segment, at) != sizeof segment) return false;
    if (segment.p_type == PT_INTERP) return true;
  }
  return false;
}

bool privileged(int fd) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return false;
  if ((st.st_mode & S_ISUID) && st.st_uid != ::geteuid()) return true;
  if ((st.st_mode & S_ISGID) && st.st_gid != ::getegid()) return true;
  return ::geteuid() != 0 && ::fgetxattr(fd, "security.capability", nullptr, 0) > 0;
}

}  // namespace

Unmovable program_kind(const std::string& program) {
  std::string file = find_in_path(program);
  for (int depth = 0; depth < 5; ++depth) {  // as deep as the kernel follows "#!"
    UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    char head[256];
    ssize_t n = fd.valid() ? ::pread(fd.get(), head, sizeof head, 0) : -1;
    if (n >= 2 && head[0] == '#' && head[1] == '!') {
      file = interpreter(head, static_cast<size_t>(n));
      continue;
    }
    if (n < static_cast<ssize_t>(sizeof(Elf64_Ehdr)) || memcmp(head, ELFMAG, SELFMAG) != 0) return Unmovable::kNone;
    Elf64_Ehdr header;
    memcpy(&header, head, sizeof header);
    if (privileged(fd.get())) return Unmovable::kPrivileged;
    if (header.e_ident[EI_CLASS] != ELFCLASS64) return Unmovable::kStatic;
    return has_interpreter_segment(fd.get(), header) ? Unmovable::kNone : Unmovable::kStatic;
  }
  return Unmovable::kNone;
}

std::string exec_problem(const std::string& program, int error) {
  if (program.empty()) return "the program's name is empty; give the path of a program";
  std::string file = find_in_path(program);
  struct stat st;
  bool there = ::stat(file.c_str(), &st) == 0;
  if ((error == ENOENT || error == ENOTDIR) && there)
    return "the interpreter of " + file + " is not there; install it, or correct the file's first line";
  if (error == ENOENT && file.find('/') == std::string::npos)
    return program + " is not in PATH; install it, or give the path of a program";
  if (error == ENOENT || error == ENOTDIR) return program + " is not there; give the path of a program";
  if (error == EACCES && there && S_ISDIR(st.st_mode)) return program + " is a directory; give the path of a program";
  if (error == EACCES) return program + " may not be executed; allow it (chmod +x), or give the path of a program";
  return program + " cannot be executed: " + strerror(error) + "; give the path of a program for this host";
}

}  // namespace godwit::wrapper
