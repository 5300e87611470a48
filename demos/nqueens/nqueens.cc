// N queens on a board of N rows, none of which attacks another: all solutions are counted, by active tuples.
//
// A task is the queens of the first rows. Its tuple is ("solutions", TASK, call("solutions", ...)), and becomes ("solutions",
// TASK, NUMBER). Nobody remembers tasks or hands them out again: a tuple that was put in by eval comes once, whoever is killed.
#include "support/bag.hh"
#include "support/options.hh"
#include "tuplespace/eval.hh"

using godwit::formal;
using namespace std::chrono_literals;

namespace {

// Queens in the first rows, as the next row sees them: a bit for each column.
struct Board {
  int64_t queens;   // that are to stand on it
  int64_t row = 0;  // the next one
  uint64_t columns = 0, left = 0, right = 0;  // attacked: down, and along both diagonals

  uint64_t free() const { return ((uint64_t{1} << queens) - 1) & ~(columns | left | right); }
  Board with(uint64_t queen) const { return {queens, row + 1, columns | queen, (left | queen) << 1, (right | queen) >> 1}; }
};

// Of each queen that has a place in the next row.
template <class Use>
void for_each_queen(const Board& board, const Use& use) {
  for (uint64_t free = board.free(); free; free &= free - 1) use(free & -free);
}

int64_t solutions(const Board& board) {
  if (board.row == board.queens) return 1;
  int64_t number = 0;
  for_each_queen(board, [&](uint64_t queen) { number += solutions(board.with(queen)); });
  return number;
}

const godwit::Functions& functions() {
  static const godwit::Functions all = godwit::Functions().add(
      "solutions", [](int64_t queens, int64_t row, uint64_t columns, uint64_t left, uint64_t right) {
        return solutions({queens, row, columns, left, right});
      });
  return all;
}

void add_tasks(const Board& board, int64_t rows, std::vector<Board>& tasks) {
  if (board.row == rows) return tasks.push_back(board);
  for_each_queen(board, [&](uint64_t queen) { add_tasks(board.with(queen), rows, tasks); });
}

// Places the rest of the queens, one a row. returns whether it can be done.
bool place(const Board& board, std::vector<uint64_t>& placed) {
  if (board.row == board.queens) return true;
  for (uint64_t free = board.free(); free; free &= free - 1) {
    placed.push_back(free & -free);
    if (place(board.with(placed.back()), placed)) return true;
    placed.pop_back();
  }
  return false;
}

void print_a_solution(int64_t queens) {
  std::vector<uint64_t> placed;
  place({queens}, placed);
  for (uint64_t queen : placed) {
    for (int64_t column = 0; column < queens; ++column) std::printf(column ? " %c" : "%c", queen >> column & 1 ? 'Q' : '.');
    std::printf("\n");
  }
}

int64_t count_together(const std::vector<Board>& tasks, demo::Workers& crew) {
  const auto number = static_cast<int64_t>(tasks.size());
  godwit::Space& space = crew.space();
  demo::Progress progress("workers", number);
  crew.start([](godwit::Space& space, int64_t) { godwit::work(space, functions()); });
  for (int64_t task = 0; task < number; ++task) {
    const Board& board = tasks[static_cast<size_t>(task)];
    space.eval("solutions", task, godwit::call("solutions", board.queens, board.row, board.columns, board.left, board.right));
  }
  int64_t sum = 0;
  for (int64_t done = 0; done < number;) {
    crew.look_after(done, number);
    auto result = space.in(20ms, "solutions", formal<int>, formal<int>);
    if (!result) continue;
    sum += std::get<1>(*result);
    progress.show(++done);
  }
  return sum;
}

void nqueens(int64_t queens, int64_t rows, const demo::Crew& options) {
  demo::Workers crew(options);
  std::vector<Board> tasks;
  add_tasks({queens}, std::min(rows, queens), tasks);
  const auto number = static_cast<int64_t>(tasks.size());
  int64_t expected = 0;
  auto add_up = [&](int64_t task) { expected += solutions(tasks[static_cast<size_t>(task)]); };
  const double alone = demo::sequentially(number, add_up);
  auto began = std::chrono::steady_clock::now();
  const int64_t counted = count_together(tasks, crew);
  const double together = demo::seconds_since(began);
  if (counted != expected) throw std::runtime_error("the workers' count is not the sequential one; please report this");
  print_a_solution(queens);
  std::printf("queens %lld solutions %lld\n", static_cast<long long>(queens), static_cast<long long>(counted));
  demo::print_speed(number, options.workers, together, alone, crew.died());
}

}  // namespace

int main(int argc, char** argv) {
  if (auto status = godwit::work_if_asked(functions())) return *status;
  int64_t queens = 14, rows = 3;
  demo::Crew crew;
  demo::parse(argc, argv, "Counts the ways to place N queens so that none attacks another, with calls that worker processes carry out.",
              {{"--queens", &queens, 1, 20, "and rows and columns of the board"},
               {"--rows", &rows, 0, 5, "whose queens make a task"},
               {"--workers", &crew.workers, 1, 256, "worker processes"},
               {"--kill", &crew.kill, 0, 1000, "so many workers are killed with -9 meanwhile"}});
  return demo::run([&] { nqueens(queens, rows, crew); });
}
