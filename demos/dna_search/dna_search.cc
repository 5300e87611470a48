// A database of DNA is searched for what resembles a target: a task is the comparison with one sequence.
//
// After Carriero and Gelernter, "Linda in Context", CACM 32(4), 1989. The likeness of two sequences is that of their best
// matching parts: Smith and Waterman, J. Mol. Biol. 147, 1981.
#include <algorithm>
#include <random>
#include <string_view>

#include "support/bag.hh"
#include "support/options.hh"

using godwit::formal;

namespace {

struct Search {
  int64_t sequences = 500, length = 2000;  // of the target, and of a sequence on average
  int64_t best = 10;                       // so many are shown
  int64_t seed = 1;
};

// Everything is made from the seed. A sequence in eight holds a part of the target, with mutations.
class Database {
 public:
  explicit Database(const Search& search) : random_(static_cast<uint32_t>(search.seed)), target_(random_dna(search.length)) {
    for (int64_t i = 0; i < search.sequences; ++i) {
      sequences_.push_back(random_dna(search.length / 2 + below(search.length)));
      if (i % 8 == 0) plant(sequences_.back());
    }
    // The longest first, so that nobody begins a long one when the others have finished.
    std::stable_sort(sequences_.begin(), sequences_.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
  }

  const std::string& target() const { return target_; }
  const std::vector<std::string>& sequences() const { return sequences_; }

 private:
  // std::uniform_int_distribution differs from one library to the next; this does not.
  int64_t below(int64_t bound) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(bound)); }
  char base() { return "ACGT"[below(4)]; }

  std::string random_dna(int64_t length) {
    std::string dna;
    for (int64_t i = 0; i < length; ++i) dna += base();
    return dna;
  }

  void plant(std::string& sequence) {
    std::string part = target_.substr(static_cast<size_t>(below(static_cast<int64_t>(target_.size()))));
    int64_t every = 4 + below(60);  // bases, about, to a mutation
    for (char& letter : part)
      if (below(every) == 0) letter = base();
    part.resize(std::min(part.size(), sequence.size()));
    auto at = static_cast<size_t>(below(static_cast<int64_t>(sequence.size() - part.size()) + 1));
    sequence.replace(at, part.size(), part);
  }

  std::mt19937 random_;
  std::string target_;
  std::vector<std::string> sequences_;
};

struct Likeness {
  int64_t score = 0, end = 0;  // end: of the matching part, in the sequence
  bool operator==(const Likeness&) const = default;
};

// One column of the table of scores after the other; a score that falls below zero begins anew.
Likeness compare(std::string_view target, std::string_view sequence) {
  constexpr int kMatch = 2, kMismatch = -1, kGap = -2;
  std::vector<int> column(target.size() + 1);
  Likeness best;
  for (size_t j = 0; j < sequence.size(); ++j) {
    int diagonal = 0, above = 0;
    for (size_t i = 1; i <= target.size(); ++i) {
      int score = std::max({0, diagonal + (target[i - 1] == sequence[j] ? kMatch : kMismatch), column[i] + kGap, above + kGap});
      diagonal = column[i];
      column[i] = above = score;
      if (score > best.score) best = {score, static_cast<int64_t>(j) + 1};
    }
  }
  return best;
}

// What a worker does: reads the target once, and for each task its sequence, which stay in the space.
void work(godwit::Space& space) {
  auto [target] = space.rd("target", formal<std::string>);
  for (;;) {
    auto [n] = space.in("task", formal<int>);
    auto [sequence] = space.rd("sequence", n, formal<std::string>);
    Likeness likeness = compare(target, sequence);
    space.out("result", n, likeness.score, likeness.end);
  }
}

void print_table(const Database& database, const std::vector<Likeness>& found, int64_t best) {
  std::vector<size_t> order;
  for (size_t n = 0; n < found.size(); ++n) order.push_back(n);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return found[a].score > found[b].score; });
  order.resize(std::min(order.size(), static_cast<size_t>(best)));
  std::printf("sequence  length  score  match ends at\n");
  for (size_t n : order)
    std::printf("%8zu  %6zu  %5lld  %13lld\n", n, database.sequences()[n].size(), static_cast<long long>(found[n].score),
                static_cast<long long>(found[n].end));
}

void dna_search(const Search& search, const demo::Crew& crew) {
  Database database(search);
  auto sequence = [&](int64_t n) -> const std::string& { return database.sequences()[static_cast<size_t>(n)]; };
  std::vector<Likeness> sequential(database.sequences().size()), found(sequential.size());
  double alone = demo::sequentially(
      search.sequences, [&](int64_t n) { sequential[static_cast<size_t>(n)] = compare(database.target(), sequence(n)); });

  demo::Bag bag(crew);
  bag.space().out("target", database.target());
  for (int64_t n = 0; n < search.sequences; ++n) bag.space().out("sequence", n, sequence(n));
  double together = bag.each_result<int, int>(search.sequences, work, [&](int64_t n, int64_t score, int64_t end) {
    found[static_cast<size_t>(n)] = {score, end};
  });
  if (found != sequential) throw std::runtime_error("the workers' scores are not the sequential ones; please report this");
  print_table(database, found, search.best);
  bag.print_speed(together, alone);
}

}  // namespace

int main(int argc, char** argv) {
  Search search;
  demo::Crew crew;
  demo::parse(argc, argv, "Searches a database of DNA for what resembles a target, with worker processes that share a tuple space.",
              {{"--workers", &crew.workers, 1, 256, "worker processes"},
               {"--kill", &crew.kill, 0, 1000, "so many workers are killed with -9 meanwhile"},
               {"--sequences", &search.sequences, 1, 100000, "in the database, and tasks"},
               {"--length", &search.length, 10, 100000, "bases of the target, and of a sequence on average"},
               {"--best", &search.best, 1, 1000, "how many are shown"},
               {"--seed", &search.seed, 0, UINT32_MAX, "of which target and database are made"}});
  return demo::run([&] { dna_search(search, crew); });
}
