#include "wrapper/pod_files.hh"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

namespace godwit::wrapper {
namespace {

constexpr std::string_view kFolder = "/dev/shm/", kPrefix = "godwit-pod-";

bool lock(int fd, int how) {
  struct flock whole{};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  int result;
  while ((result = ::fcntl(fd, how, &whole)) != 0 && errno == EINTR) {
  }
  return result == 0;
}

bool is_own_file(int fd) {
  struct stat st;
  return ::fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == ::geteuid();
}

bool still_at(int fd, const std::string& path) {
  struct stat opened, named;
  return ::fstat(fd, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

bool belongs_to(int fd, const std::string& segment) {
  PodFile file;
  ssize_t n = ::pread(fd, &file, sizeof file, 0);
  if (n == 0) return true;  // its supervisor was killed before it wrote
  file.segment[sizeof file.segment - 1] = 0;
  return n == sizeof file && file.magic == kPodFileMagic && segment == file.segment;
}

void reclaim(const std::string& path, const std::string& segment) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid() || !is_own_file(fd.get()) || !lock(fd.get(), F_OFD_SETLK)) return;
  if (belongs_to(fd.get(), segment) && still_at(fd.get(), path)) ::unlink(path.c_str());
}

}  // namespace

Result<UniqueFd> claim_pod_file(uint64_t inode, const PodFile& file) {
  char path[64];
  pod_file_path(inode, path);
  for (;;) {
    UniqueFd fd(::open(path, O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd.valid() && !is_own_file(fd.get())) errno = EACCES, fd.reset();
    if (!fd.valid() && errno != EACCES) return errno_error(std::string("cannot write ") + path);
    if (!fd.valid())
      return make_error(std::errc::permission_denied, std::string(path) + " belongs to another user; let root remove it");
    if (!lock(fd.get(), F_OFD_SETLKW)) return errno_error(std::string("cannot lock ") + path);
    if (!still_at(fd.get(), path)) continue;
    if (::fchmod(fd.get(), 0600) != 0 || ::pwrite(fd.get(), &file, sizeof file, 0) != sizeof file)
      return errno_error(std::string("cannot write ") + path);
    return fd;
  }
}

void remove_pod_file(uint64_t inode) {
  char path[64];
  pod_file_path(inode, path);
  ::unlink(path);
}

void reclaim_pod_files(const std::string& segment) {
  std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(kFolder.data()), ::closedir);
  while (dirent* entry = folder ? ::readdir(folder.get()) : nullptr)
    if (std::string_view(entry->d_name).starts_with(kPrefix)) reclaim(std::string(kFolder) + entry->d_name, segment);
}

}  // namespace godwit::wrapper
