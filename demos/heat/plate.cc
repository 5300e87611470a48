#include "heat/plate.hh"

#include <algorithm>
#include <array>
#include <cmath>

namespace heat {
namespace {

// A row's next temperatures. The first and the last stay.
[[gnu::noinline]] void diffuse(const double* __restrict row, int64_t width, double* __restrict next) {
  const double *above = row - width, *below = row + width;
  for (int64_t x = 1; x < width - 1; ++x) next[x] = row[x] + 0.2 * (above[x] + below[x] + row[x - 1] + row[x + 1] - 4 * row[x]);
}

}  // namespace

Rows cold_plate_with_hot_discs(const Plate& plate) {
  Rows all(plate.rows(plate.height));
  for (int64_t y = 0; y < plate.height; ++y)
    for (int64_t x = 0; x < plate.width; ++x) {
      const double u = static_cast<double>(x) / static_cast<double>(plate.width);
      const double v = static_cast<double>(y) / static_cast<double>(plate.height);
      bool hot = y == 0;
      for (auto [disc_u, disc_v, radius] : {std::array{0.3, 0.35, 0.12}, {0.7, 0.45, 0.08}, {0.45, 0.75, 0.1}})
        hot = hot || std::hypot(u - disc_u, v - disc_v) < radius;
      all[plate.rows(y) + static_cast<size_t>(x)] = hot && x > 0 && x < plate.width - 1 && y < plate.height - 1 ? 1 : 0;
    }
  return all;
}

void advance(Rows& rows, int64_t width, int64_t steps, bool is_top, bool is_bottom) {
  const int64_t height = static_cast<int64_t>(rows.size()) / width;
  Rows next = rows;
  for (int64_t step = 1; step <= steps; ++step) {
    for (int64_t y = is_top ? 1 : step; y < height - (is_bottom ? 1 : step); ++y) {
      const auto row = static_cast<size_t>(y * width);
      diffuse(&rows[row], width, &next[row]);
    }
    rows.swap(next);
  }
}

demo::Picture picture_of(const Plate& plate, const Rows& all) {
  demo::Picture picture(plate.width, plate.height);
  auto part = [](double value) { return static_cast<uint8_t>(255 * std::clamp(value, 0.0, 1.0)); };
  for (int64_t y = 0; y < plate.height; ++y)
    for (int64_t x = 0; x < plate.width; ++x) {
      double warmth = std::sqrt(all[plate.rows(y) + static_cast<size_t>(x)]);
      picture.at(x, y) = {part(2 * warmth), part(2 * warmth - 0.8), part(5 * warmth - 4)};
    }
  return picture;
}

}  // namespace heat
