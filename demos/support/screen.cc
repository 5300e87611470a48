#include "support/screen.hh"

#include <langinfo.h>
#include <locale.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace demo {
namespace {

using namespace std::chrono_literals;

struct Room {
  int64_t columns = 80, lines = 24;
};
Room room() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {};
  return {size.ws_col, size.ws_row};
}

// LC_CTYPE of the environment, and back: what else the program prints is not to change.
bool speaks_utf8() {
  setlocale(LC_CTYPE, "");
  bool utf8 = std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
  setlocale(LC_CTYPE, "C");
  return utf8;
}

// Of xterm's cube of 6 x 6 x 6.
int color(const Pixel& pixel) { return 16 + pixel.red * 5 / 255 * 36 + pixel.green * 5 / 255 * 6 + pixel.blue * 5 / 255; }

std::string colors(const Pixel& upper, const Pixel& lower) {
  return "\033[38;5;" + std::to_string(color(upper)) + ";48;5;" + std::to_string(color(lower)) + "m";
}

char ramp(const Pixel& pixel) { return " .:-=+*#%@"[(pixel.red + pixel.green + pixel.blue) * 9 / 765]; }

}  // namespace

Screen::Screen() : terminal_(isatty(STDOUT_FILENO)), utf8_(speaks_utf8()) {}

bool Screen::wants_picture() const { return terminal_ && std::chrono::steady_clock::now() >= next_; }

void Screen::draw(const Picture& picture) {
  // A character is about twice as high as wide. Below, two lines are left for the bar and what comes then.
  auto [columns, lines] = room();
  lines = std::max<int64_t>(lines - 2, 1);
  const int64_t widest = std::min(columns - 1, lines * 2 * picture.width() / picture.height());
  const int64_t width = std::clamp<int64_t>(widest, 1, picture.width());
  const int64_t height = std::clamp<int64_t>(width * picture.height() / picture.width() / 2, 1, lines);
  auto at = [&](int64_t x, int64_t half) -> const Pixel& {
    return picture.at(x * picture.width() / width, half * picture.height() / (2 * height));
  };
  std::string text = "\r";
  if (lines_) text += "\033[" + std::to_string(lines_) + "A";
  if (lines_ != height) text += "\033[J";
  for (int64_t y = 0; y < height; ++y) {
    std::string last;
    for (int64_t x = 0; x < width; ++x) {
      if (utf8_) {
        std::string now = colors(at(x, 2 * y), at(x, 2 * y + 1));
        text += (now == last ? "" : now) + "\u2580";
        last = now;
      } else {
        text += ramp(at(x, 2 * y));
      }
    }
    text += utf8_ ? "\033[0m\033[K\n" : "\033[K\n";
  }
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
  lines_ = height;
  next_ = std::chrono::steady_clock::now() + 100ms;
}

}  // namespace demo
