#include "tuplespace/clients/audit.hh"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>

#include "tuplespace/posix/file.hh"

namespace godwit::clients {
namespace {

constexpr auto kPause = std::chrono::seconds(1);
constexpr size_t kMostKinds = 4096;

std::string now_as_text() {
  time_t now = time(nullptr);
  tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace

bool Audit::may_write(Clock::time_point now) {
  if (now - second_ >= kPause) second_ = now, lines_ = 0;
  return lines_++ < kMostLines;
}

void Audit::note(std::string_view client, std::string_view event, std::string_view facts, bool each) {
  auto now = Clock::now();
  if (kinds_.size() >= kMostKinds) kinds_.clear();
  Kind& kind = kinds_[std::string(client).append(" ").append(event)];
  bool soon = !each && kind.written != Clock::time_point() && now - kind.written < kPause;
  if (soon || !may_write(now)) {
    ++kind.left_out;
    return;
  }
  std::string line = now_as_text();
  line.append(" ").append(client).append(" ").append(event);
  for (char c : facts.empty() ? std::string() : " " + std::string(facts)) line += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  if (kind.left_out) line += " (and " + std::to_string(kind.left_out) + " more)";
  kind = {now, 0};
  write(line + "\n");
}

void Audit::write(const std::string& line) {
  if (file_.valid() && size_ + line.size() > kLargest) {
    file_.reset();
    rename(path_.c_str(), (path_ + ".1").c_str());
  }
  if (!file_.valid()) {
    file_.reset(open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    struct stat status;
    size_ = file_.valid() && fstat(file_.get(), &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
  }
  size_ += line.size();
  if (file_.valid()) (void)write_all(file_.get(), line);
}

}  // namespace godwit::clients
