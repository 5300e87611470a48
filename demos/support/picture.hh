// A picture, and the PNG file that it goes to.
#pragma once
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace demo {

struct Pixel {
  uint8_t red, green, blue;
};

/// Opened before anything is computed, so that one that cannot be written is told at once. Until it is written, what is in it
/// stays, and one that is new goes with us.
class OutputFile {
 public:
  explicit OutputFile(std::string name);
  OutputFile(const OutputFile&) = delete;
  ~OutputFile();

 private:
  friend class Picture;
  [[noreturn]] void fail(const char* why) const;

  const std::string name_;
  const bool is_new_;
  FILE* file_;  // null: written
};

class Picture {
 public:
  Picture(int64_t width, int64_t height);
  int64_t width() const { return width_; }
  int64_t height() const { return height_; }
  Pixel& at(int64_t x, int64_t y) { return pixels_[static_cast<size_t>(y * width_ + x)]; }
  const Pixel& at(int64_t x, int64_t y) const { return pixels_[static_cast<size_t>(y * width_ + x)]; }
  /// pixels  as many Pixels as it is wide.
  void set_row(int64_t y, const void* pixels);
  bool operator==(const Picture& other) const;
  /// Writes it, once, and prints a line that says so.
  void write(OutputFile& file) const;

 private:
  int64_t width_, height_;
  std::vector<Pixel> pixels_;  // rows, below each other
};

}  // namespace demo
