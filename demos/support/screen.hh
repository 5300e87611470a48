// A picture drawn with characters, in its own place again and again; nothing where stdout is no terminal.
#pragma once
#include <chrono>

#include "support/picture.hh"

namespace demo {

class Screen {
 public:
  Screen();
  bool is_there() const { return terminal_; }
  /// Whether it is time to draw: some times a second, and never without a terminal.
  bool wants_picture() const;
  /// Scaled to what the terminal has room for. Two pixels a character, in 216 colours; or, where UTF-8 is not spoken, a character
  /// a pixel, by its brightness.
  void draw(const Picture& picture);

 private:
  const bool terminal_, utf8_;
  int64_t lines_ = 0;  // drawn, above the cursor
  std::chrono::steady_clock::time_point next_{};
};

}  // namespace demo
