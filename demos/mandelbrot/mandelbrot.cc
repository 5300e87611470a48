// The Mandelbrot set as a bag of tasks: a task is a row of the picture.
#include <algorithm>
#include <cmath>
#include <complex>
#include <span>

#include "support/bag.hh"
#include "support/options.hh"
#include "support/picture.hh"

using godwit::Bytes;
using godwit::formal;

namespace {

using demo::Pixel;
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

void mandelbrot(const View& view, const demo::Crew& crew, const std::string& file_name) {
  demo::OutputFile file(file_name);
  demo::Picture sequential(view.width, view.height), picture(view.width, view.height);
  double alone = demo::sequentially(view.height, [&](int64_t y) { sequential.set_row(y, row(view, y).data()); });
  demo::Bag bag(crew);
  double together = bag.each_result<Bytes>(
      view.height, [&](godwit::Space& space) { work(space, view); },
      [&](int64_t y, const Bytes& pixels) { picture.set_row(y, pixels.data.data()); });
  if (!(picture == sequential)) throw std::runtime_error("the workers' picture is not the sequential one; please report this");
  picture.write(file);
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
