// Heat spreads over a plate: each worker computes a band of its rows, and neighbours send each other the rows at their border.
//
//   ("band", WHO, STEP, rows)       a worker's rows after so many steps
//   ("down", WHO, STEP, rows)       its last ones, for the worker below
//   ("up", WHO, STEP, rows)         its first ones, for the worker above
//
// No barrier: who has its neighbours' rows goes on. With K rows of each neighbour a worker does K steps alone, of rows that get
// fewer from step to step. What it takes and puts for them is a transaction: killed at any moment, it has not begun them.
#include <algorithm>
#include <cstring>
#include <optional>
#include <span>

#include "heat/plate.hh"
#include "support/bag.hh"
#include "support/options.hh"
#include "support/progress.hh"
#include "support/screen.hh"
#include "support/workers.hh"
#include "tuplespace/transaction.hh"

using godwit::Bytes;
using godwit::formal;
using heat::Plate;
using heat::Rows;
using namespace std::chrono_literals;

namespace {

void append(Rows& rows, const Bytes& bytes) {
  const size_t before = rows.size();
  rows.resize(before + bytes.data.size() / sizeof(double));
  std::memcpy(&rows[before], bytes.data.data(), bytes.data.size());
}

// Puts a worker's part of the plate, and what its neighbours need of it.
void put(godwit::Space& space, const Plate& plate, int64_t who, int64_t workers, int64_t step, std::span<const double> band) {
  space.out("band", who, step, std::as_bytes(band));
  if (who > 0) space.out("up", who, step, std::as_bytes(band.first(plate.rows(plate.every))));
  if (who < workers - 1) space.out("down", who, step, std::as_bytes(band.last(plate.rows(plate.every))));
}

// What a worker does, for ever: takes its band and its neighbours' rows, and puts its own.
void work(godwit::Space& space, const Plate& plate, int64_t who, int64_t workers) {
  const bool is_top = who == 0, is_bottom = who == workers - 1;
  for (;;) {
    godwit::Transaction transaction;
    godwit::Space grid = transaction.of(space);
    auto [step, band] = grid.in("band", who, godwit::range<int64_t>(0, plate.steps - 1), formal<Bytes>);
    Rows rows;
    if (!is_top) append(rows, std::get<0>(grid.in("down", who - 1, step, formal<Bytes>)));
    const size_t first = rows.size(), size = band.data.size() / sizeof(double);
    append(rows, band);
    if (!is_bottom) append(rows, std::get<0>(grid.in("up", who + 1, step, formal<Bytes>)));
    const int64_t steps = std::min(plate.every, plate.steps - step);
    heat::advance(rows, plate.width, steps, is_top, is_bottom);
    put(grid, plate, who, workers, step + steps, std::span(rows).subspan(first, size));
    transaction.commit();
  }
}

// The bands of a plate, and their places in it.
class Bands {
 public:
  Bands(const Plate& plate, int64_t workers) : plate_(plate), workers_(workers), all_(plate.rows(plate.height)) {}

  size_t begin_of(int64_t who) const { return plate_.rows(plate_.height * who / workers_); }
  void put_all(godwit::Space& space, const Rows& all) const {
    for (int64_t who = 0; who < workers_; ++who)
      put(space, plate_, who, workers_, 0, std::span(all).subspan(begin_of(who), begin_of(who + 1) - begin_of(who)));
  }
  /// Copies a worker's band. steps  template: of which step. returns that step; none: it is being computed.
  template <class Steps>
  std::optional<int64_t> look(godwit::Space& space, int64_t who, const Steps& steps) {
    auto band = space.rd(20ms, "band", who, steps, formal<Bytes>);
    if (!band) return std::nullopt;
    auto& [step, bytes] = *band;
    std::memcpy(&all_[begin_of(who)], bytes.data.data(), bytes.data.size());
    return step;
  }
  const Rows& all() const { return all_; }

 private:
  const Plate plate_;
  const int64_t workers_;
  Rows all_;
};

// Looks after the workers, and shows how far they are, until all bands are there.
void wait_for(demo::Workers& workers, const demo::Crew& crew, const Plate& plate, Bands& bands) {
  demo::Screen screen;
  demo::Progress progress("workers", plate.steps);
  int64_t reached = 0;
  for (int64_t who = 0; who < crew.workers;) {
    workers.look_after(reached, plate.steps);
    if (bands.look(workers.space(), who, godwit::range(plate.steps, plate.steps))) {
      ++who;
      continue;
    }
    reached = bands.look(workers.space(), 0, formal<int>).value_or(reached);
    if (screen.wants_picture()) {
      for (int64_t other = 1; other < crew.workers; ++other) bands.look(workers.space(), other, formal<int>);
      screen.draw(heat::picture_of(plate, bands.all()));
    }
    progress.show(reached);
  }
  workers.look_after(plate.steps, plate.steps);  // if it was over sooner than we looked, not all were killed yet
  if (screen.is_there()) screen.draw(heat::picture_of(plate, bands.all()));
}

void spread(const Plate& plate, const demo::Crew& crew, const std::string& file_name) {
  if (crew.workers > 1 && plate.height / crew.workers < plate.every)
    throw std::runtime_error("a worker's band has fewer rows than are exchanged; make --workers or --every less, or --height more");
  std::optional<demo::OutputFile> file;
  if (!file_name.empty()) file.emplace(file_name);
  const Rows start = heat::cold_plate_with_hot_discs(plate);
  Rows sequential = start;
  const int64_t at_once = 50;
  const double alone = demo::sequentially((plate.steps + at_once - 1) / at_once, [&](int64_t n) {
    heat::advance(sequential, plate.width, std::min(at_once, plate.steps - n * at_once), true, true);
  });

  demo::Workers workers(crew);
  Bands bands(plate, crew.workers);
  bands.put_all(workers.space(), start);
  const auto began = std::chrono::steady_clock::now();
  workers.start([&](godwit::Space& space, int64_t who) { work(space, plate, who, crew.workers); });
  wait_for(workers, crew, plate, bands);
  const double together = demo::seconds_since(began);
  if (std::memcmp(bands.all().data(), sequential.data(), sequential.size() * sizeof(double)) != 0)
    throw std::runtime_error("the workers' plate is not the sequential one; please report this");
  if (file) heat::picture_of(plate, bands.all()).write(*file);
  const double updates = static_cast<double>((plate.width - 2) * (plate.height - 2) * plate.steps);
  std::printf("steps %lld workers %lld seconds %.3f updates_per_second %.0f speed_up %.2f sequential_seconds %.3f killed %lld\n",
              static_cast<long long>(plate.steps), static_cast<long long>(crew.workers), together, updates / together,
              alone / together, alone, static_cast<long long>(workers.died()));
}

}  // namespace

int main(int argc, char** argv) {
  Plate plate;
  demo::Crew crew;
  std::string file;
  demo::parse(argc, argv, "Spreads heat over a plate with worker processes, each of a band of it, and draws that on a terminal.",
              {{"--workers", &crew.workers, 1, 256, "worker processes"},
               {"--kill", &crew.kill, 0, 1000, "so many workers are killed with -9 meanwhile"},
               {"--width", &plate.width, 3, 20000, "of the plate"},
               {"--height", &plate.height, 3, 20000, "of the plate"},
               {"--steps", &plate.steps, 1, 10000000, "in time"},
               {"--every", &plate.every, 1, 1000, "neighbours exchange so many rows, and then do so many steps"}},
              {{"--file", &file, "PNG of the end; what is in it is overwritten"}});
  return demo::run([&] { spread(plate, crew, file); });
}
