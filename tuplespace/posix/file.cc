#include "tuplespace/posix/file.hh"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace godwit {

Result<std::string> read_file(const std::string& path, size_t limit) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return errno_error("reading " + path);
  std::string content;
  char buffer[65536];
  for (;;) {
    ssize_t got = read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("reading " + path);
    if (got == 0) return content;
    content.append(buffer, static_cast<size_t>(got));
    if (content.size() > limit) return make_error(std::errc::file_too_large, "reading " + path);
  }
}

Result<void> write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t put = write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno_error("writing a file");
    bytes.remove_prefix(static_cast<size_t>(put));
  }
  return {};
}

Result<void> sync_folder(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || fsync(fd.get()) != 0) return errno_error("syncing " + path);
  return {};
}

Result<void> replace_file(const std::string& path, std::string_view content, Durable durable) {
  std::string fresh = path + ".new";
  UniqueFd fd(open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd.valid()) return errno_error("creating " + fresh);
  if (auto written = write_all(fd.get(), content); !written) return written.error();
  if (durable == Durable::kYes && fsync(fd.get()) != 0) return errno_error("syncing " + fresh);
  fd.reset();
  if (rename(fresh.c_str(), path.c_str()) != 0) return errno_error("renaming " + fresh);
  if (durable == Durable::kNo) return {};
  size_t slash = path.rfind('/');
  return sync_folder(slash == std::string::npos ? "." : path.substr(0, slash + 1));
}

}  // namespace godwit
