// The product of two matrices, by blocks that are tuples: a task is a block of the product.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <span>

#include "support/bag.hh"
#include "support/options.hh"

using godwit::Bytes;
using godwit::formal;

namespace {

struct Sizes {
  int64_t blocks = 16;  // a matrix is so many blocks high and wide
  int64_t block = 100;  // a block is so many elements high and wide
};

using Block = std::vector<double>;  // row by row

size_t elements(const Sizes& sizes) { return static_cast<size_t>(sizes.block * sizes.block); }

class Matrix {
 public:
  explicit Matrix(const Sizes& sizes)
      : across_(sizes.blocks), blocks_(static_cast<size_t>(sizes.blocks * sizes.blocks), Block(elements(sizes))) {}

  Block& at(int64_t row, int64_t column) { return blocks_[static_cast<size_t>(row * across_ + column)]; }
  const Block& at(int64_t row, int64_t column) const { return blocks_[static_cast<size_t>(row * across_ + column)]; }

  void fill(uint32_t seed) {
    std::mt19937 random(seed);
    for (Block& block : blocks_)
      for (double& element : block) element = static_cast<double>(random()) / 0x1p31 - 1;
  }
  bool operator==(const Matrix& other) const {
    return std::equal(blocks_.begin(), blocks_.end(), other.blocks_.begin(), [](const Block& a, const Block& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
    });
  }
  double trace(const Sizes& sizes) const {
    double sum = 0;
    for (int64_t i = 0; i < sizes.blocks; ++i)
      for (int64_t j = 0; j < sizes.block; ++j) sum += at(i, i)[static_cast<size_t>(j * sizes.block + j)];
    return sum;
  }
  double largest() const {
    double found = 0;
    for (const Block& block : blocks_)
      for (double element : block) found = std::max(found, std::abs(element));
    return found;
  }

 private:
  int64_t across_;
  std::vector<Block> blocks_;
};

// sum += a b. restrict: no two of them overlap, so that the compiler may use vector instructions. noinline: or else it makes the
// copy in the worker the better one, and the speed-up is none.
[[gnu::noinline]] void multiply_add(const Block& a, const Block& b, int64_t size, Block& sum) {
  auto n = static_cast<size_t>(size);
  for (size_t i = 0; i < n; ++i) {
    double* __restrict out = &sum[i * n];
    for (size_t k = 0; k < n; ++k) {
      const double factor = a[i * n + k], *__restrict row = &b[k * n];
      for (size_t j = 0; j < n; ++j) out[j] += factor * row[j];
    }
  }
}

void put(godwit::Space& space, const char* name, const Matrix& matrix, const Sizes& sizes) {
  for (int64_t row = 0; row < sizes.blocks; ++row)
    for (int64_t column = 0; column < sizes.blocks; ++column)
      space.out(name, row, column, std::as_bytes(std::span(matrix.at(row, column))));
}

void copy(const Bytes& bytes, Block& block) { std::memcpy(block.data(), bytes.data.data(), bytes.data.size()); }

void read(godwit::Space& space, const char* name, int64_t row, int64_t column, Block& block) {
  auto [bytes] = space.rd(name, row, column, formal<Bytes>);
  copy(bytes, block);
}

// What a worker does: a task is the number of a block of the product, for which it reads a row of A's blocks, unless it has it
// from the last task, and a column of B's.
void work(godwit::Space& space, const Sizes& sizes) {
  std::vector<Block> row(static_cast<size_t>(sizes.blocks), Block(elements(sizes)));
  Block b(elements(sizes)), sum(elements(sizes));
  for (int64_t in_hand = -1;;) {
    auto [task] = space.in("task", formal<int>);
    int64_t i = task / sizes.blocks, j = task % sizes.blocks;
    if (i != in_hand) {
      for (int64_t k = 0; k < sizes.blocks; ++k) read(space, "A", i, k, row[static_cast<size_t>(k)]);
      in_hand = i;
    }
    std::fill(sum.begin(), sum.end(), 0.0);
    for (int64_t k = 0; k < sizes.blocks; ++k) {
      read(space, "B", k, j, b);
      multiply_add(row[static_cast<size_t>(k)], b, sizes.block, sum);
    }
    space.out("result", task, std::as_bytes(std::span(sum)));
  }
}

void print_table(const Sizes& sizes, std::initializer_list<std::pair<const char*, const Matrix*>> matrices) {
  std::printf("matrix  elements   blocks  trace         largest\n");
  for (auto [name, matrix] : matrices)
    std::printf("%-6s  %4lldx%-4lld  %3lldx%-3lld  %-12.6f  %.6f\n", name, static_cast<long long>(sizes.blocks * sizes.block),
                static_cast<long long>(sizes.blocks * sizes.block), static_cast<long long>(sizes.blocks),
                static_cast<long long>(sizes.blocks), matrix->trace(sizes), matrix->largest());
}

void multiply(const Sizes& sizes, const demo::Crew& crew, int64_t seed) {
  Matrix a(sizes), b(sizes), sequential(sizes), product(sizes);
  a.fill(static_cast<uint32_t>(seed));
  b.fill(static_cast<uint32_t>(seed + 1));
  int64_t tasks = sizes.blocks * sizes.blocks;
  double alone = demo::sequentially(tasks, [&](int64_t task) {
    int64_t row = task / sizes.blocks, column = task % sizes.blocks;
    for (int64_t k = 0; k < sizes.blocks; ++k) multiply_add(a.at(row, k), b.at(k, column), sizes.block, sequential.at(row, column));
  });

  demo::Bag bag(crew);
  put(bag.space(), "A", a, sizes);
  put(bag.space(), "B", b, sizes);
  double together = bag.each_result<Bytes>(
      tasks, [&](godwit::Space& space) { work(space, sizes); },
      [&](int64_t task, const Bytes& bytes) { copy(bytes, product.at(task / sizes.blocks, task % sizes.blocks)); });
  if (!(product == sequential)) throw std::runtime_error("the workers' product is not the sequential one; please report this");
  print_table(sizes, {{"A", &a}, {"B", &b}, {"A B", &product}});
  bag.print_speed(together, alone);
}

}  // namespace

int main(int argc, char** argv) {
  Sizes sizes;
  demo::Crew crew;
  int64_t seed = 1;
  demo::parse(argc, argv, "Multiplies two matrices by blocks, with worker processes that find them in a tuple space.",
              {{"--workers", &crew.workers, 1, 256, "worker processes"},
               {"--kill", &crew.kill, 0, 1000, "so many workers are killed with -9 meanwhile"},
               {"--blocks", &sizes.blocks, 1, 100, "N: a matrix has N x N blocks, a task each"},
               {"--block", &sizes.block, 1, 1000, "N: a block has N x N elements"},
               {"--seed", &seed, 0, UINT32_MAX - 1, "of which the matrices are made"}});
  return demo::run([&] { multiply(sizes, crew, seed); });
}
