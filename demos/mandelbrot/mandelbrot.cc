// The Mandelbrot set as a bag of tasks: a task is a row of the picture.
#include <png.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <complex>
#include <cstring>
#include <span>

#include "support/bag.hh"
#include "support/options.hh"

using godwit::Bytes;
using godwit::formal;

namespace {

struct Pixel {
  uint8_t red, green, blue;
};
using Row = std::vector<Pixel>;

struct View {
  int64_t width = 1200, height = 800;
  int64_t iterations = 5000;  // after which a point counts as one of the set

  std::complex<double> point(int64_t x, int64_t y) const {
    double scale = 2.4 / static_cast<double>(height);
    return {static_cast<double>(x - width / 2) * scale - 0.7, static_cast<double>(y - height / 2) * scale};
  }
};

// How long c stays near, without a step from one colour to the next; the iterations: it never leaves.
double escape_time(std::complex<double> c, int64_t iterations) {
  double x = 0, y = 0;
  for (int64_t n = 0; n < iterations; ++n) {
    double xx = x * x, yy = y * y;
    if (xx + yy > 256) return static_cast<double>(n + 1) - std::log2(std::log2(xx + yy) / 2);
    y = 2 * x * y + c.imag();
    x = xx - yy + c.real();
  }
  return static_cast<double>(iterations);
}

Pixel color(double time, int64_t iterations) {
  if (time >= static_cast<double>(iterations)) return {0, 0, 0};
  double angle = 0.9 * std::sqrt(std::max(time, 0.0));
  auto wave = [angle](double phase) { return static_cast<uint8_t>(127.5 - 127.5 * std::cos(angle + phase)); };
  return {wave(0.0), wave(0.5), wave(1.1)};
}

Row row(const View& view, int64_t y) {
  Row pixels(static_cast<size_t>(view.width));
  for (int64_t x = 0; x < view.width; ++x)
    pixels[static_cast<size_t>(x)] = color(escape_time(view.point(x, y), view.iterations), view.iterations);
  return pixels;
}

// What a worker does: takes the number of a row and puts the row.
void work(godwit::Space& space, const View& view) {
  for (;;) {
    auto [y] = space.in("task", formal<int>);
    Row pixels = row(view, y);
    space.out("result", y, std::as_bytes(std::span(pixels)));
  }
}

// Opened before anything is computed, so that one that cannot be written is told at once. Until it is written, what is in it
// stays, and one that is new goes with us.
class OutputFile {
 public:
  explicit OutputFile(std::string name)
      : name_(std::move(name)), is_new_(access(name_.c_str(), F_OK) != 0), file_(std::fopen(name_.c_str(), "ab")) {
    if (!file_) fail(std::strerror(errno));
  }
  OutputFile(const OutputFile&) = delete;
  ~OutputFile() {
    if (!file_) return;
    std::fclose(file_);
    if (is_new_) unlink(name_.c_str());
  }

  const std::string& name() const { return name_; }
  void write_png(png_image image, const void* pixels) {
    (void)!ftruncate(fileno(file_), 0);  // a pipe or device has nothing in it
    if (!png_image_write_to_stdio(&image, file_, 0, pixels, 0, nullptr)) fail(image.message);
    if (std::fclose(std::exchange(file_, nullptr)) != 0) fail(std::strerror(errno));
  }

 private:
  [[noreturn]] void fail(const char* why) const {
    throw std::runtime_error("cannot write " + name_ + ": " + why + "; --file names another");
  }

  const std::string name_;
  const bool is_new_;
  FILE* file_;  // null: written
};

// The rows of a picture, below each other.
class Picture {
 public:
  explicit Picture(const View& view) : view_(view), pixels_(static_cast<size_t>(view.width * view.height)) {}

  void set_row(int64_t y, const void* pixels) {
    auto width = static_cast<size_t>(view_.width);
    std::memcpy(&pixels_[static_cast<size_t>(y) * width], pixels, width * sizeof(Pixel));
  }
  bool operator==(const Picture& other) const {
    return std::memcmp(pixels_.data(), other.pixels_.data(), pixels_.size() * sizeof(Pixel)) == 0;
  }
  void write(OutputFile& file) const {
    png_image image{};
    image.version = PNG_IMAGE_VERSION;
    image.width = static_cast<png_uint_32>(view_.width);
    image.height = static_cast<png_uint_32>(view_.height);
    image.format = PNG_FORMAT_RGB;
    file.write_png(image, pixels_.data());
  }

 private:
  View view_;
  std::vector<Pixel> pixels_;
};

void mandelbrot(const View& view, const demo::Crew& crew, const std::string& file_name) {
  OutputFile file(file_name);
  Picture sequential(view), picture(view);
  double alone = demo::sequentially(view.height, [&](int64_t y) { sequential.set_row(y, row(view, y).data()); });
  demo::Bag bag(crew);
  double together = bag.each_result<Bytes>(
      view.height, [&](godwit::Space& space) { work(space, view); },
      [&](int64_t y, const Bytes& pixels) { picture.set_row(y, pixels.data.data()); });
  if (!(picture == sequential)) throw std::runtime_error("the workers' picture is not the sequential one; please report this");
  picture.write(file);
  std::printf("picture %s %lldx%lld\n", file.name().c_str(), static_cast<long long>(view.width), static_cast<long long>(view.height));
  bag.print_speed(together, alone);
}

}  // namespace

int main(int argc, char** argv) {
  View view;
  demo::Crew crew;
  std::string file = "mandelbrot.png";
  demo::parse(argc, argv, "Draws the Mandelbrot set with worker processes that find their tasks in a tuple space.",
              {{"--workers", &crew.workers, 1, 256, "worker processes"},
               {"--kill", &crew.kill, 0, 1000, "so many workers are killed with -9 meanwhile"},
               {"--width", &view.width, 1, 20000, "pixels"},
               {"--height", &view.height, 1, 20000, "pixels, and tasks"},
               {"--iterations", &view.iterations, 1, 1000000, "after which a point counts as one of the set"}},
              {{"--file", &file, "of the picture; what is in it is overwritten"}});
  return demo::run([&] { mandelbrot(view, crew, file); });
}
