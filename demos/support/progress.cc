#include "support/progress.hh"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

namespace demo {
namespace {

// Characters between the brackets, so that the line does not wrap. A terminal that does not know its width has room.
int room_for_bar() {
  constexpr int kMost = 50, kBesides = 22;  // the label, brackets, the number, and the cursor
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kMost;
  return std::clamp(size.ws_col - kBesides, 0, kMost);
}

}  // namespace

Progress::Progress(const char* label, int64_t total) : label_(label), total_(total), terminal_(isatty(STDERR_FILENO)) { show(0); }

Progress::~Progress() {
  if (terminal_) std::fputs("\r\033[K", stderr);
}

void Progress::show(int64_t done) {
  int64_t percent = done * 100 / total_;
  if (!terminal_ || percent == percent_) return;
  percent_ = percent;
  int room = room_for_bar();
  std::string bar(static_cast<size_t>(percent * room / 100), '#');
  std::fprintf(stderr, "\r%-12s [%-*s] %3lld %%", label_, room, bar.c_str(), static_cast<long long>(percent));
}

}  // namespace demo
