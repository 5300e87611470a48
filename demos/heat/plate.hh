// A plate whose temperatures spread: explicit finite differences in two dimensions.
#pragma once
#include <cstdint>
#include <vector>

#include "support/picture.hh"

namespace heat {

struct Plate {
  int64_t width = 600, height = 600;
  int64_t steps = 6000;
  int64_t every = 50;  // after so many steps rows are exchanged, and so many

  size_t rows(int64_t number) const { return static_cast<size_t>(number * width); }  // in doubles
};

// Temperatures from 0 to 1, row by row.
using Rows = std::vector<double>;

/// The upper edge is held hot, the others cold; within are three hot discs.
Rows cold_plate_with_hot_discs(const Plate& plate);

/// So many steps. Above and below, either the plate ends, and that row stays; or there are rows of a neighbour's, at least one for
/// each step, which are useless afterwards.
void advance(Rows& rows, int64_t width, int64_t steps, bool is_top, bool is_bottom);

demo::Picture picture_of(const Plate& plate, const Rows& all);

}  // namespace heat
