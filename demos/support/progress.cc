#include "support/progress.hh"

#include <unistd.h>

#include <cstdio>
#include <string>

namespace demo {

Progress::Progress(const char* label, int64_t total) : label_(label), total_(total), terminal_(isatty(STDERR_FILENO)) { show(0); }

Progress::~Progress() {
  if (terminal_) std::fputs("\r\033[K", stderr);
}

void Progress::show(int64_t done) {
  int64_t percent = done * 100 / total_;
  if (!terminal_ || percent == percent_) return;
  percent_ = percent;
  std::fprintf(stderr, "\r%-12s [%-50s] %3lld %%", label_, std::string(static_cast<size_t>(percent / 2), '#').c_str(),
               static_cast<long long>(percent));
}

}  // namespace demo
