// A stored corpus, and random mutations of it.
#pragma once
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace godwit::testing {

inline void check(bool fine, const char* what) {
  if (fine) return;
  std::cerr << "broken: " << what << "\n";
  std::abort();
}

inline std::string mutate(std::string bytes, std::mt19937_64& random) {
  int changes = 1 + static_cast<int>(random() % 4);
  for (int i = 0; i < changes; ++i) {
    size_t at = bytes.empty() ? 0 : random() % bytes.size();
    switch (random() % 6) {
      case 0: if (!bytes.empty()) bytes[at] = static_cast<char>(random()); break;
      case 1: if (!bytes.empty()) bytes[at] ^= static_cast<char>(1 << random() % 8); break;
      case 2: bytes.insert(at, 1 + random() % 4, static_cast<char>(random())); break;
      case 3: bytes.erase(at, 1 + random() % 4); break;
      case 4: bytes.resize(at); break;
      case 5: bytes.insert(at, bytes.substr(bytes.size() / 2, random() % 64)); break;
    }
  }
  return bytes;
}

/// Calls f(input, stored) for the files of the folder and then for mutations of them. The seed is printed.
template <class F>
void fuzz(const char* folder, unsigned long rounds, unsigned long seed, F f) {
  std::vector<std::string> corpus;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  std::cout << "seed " << seed << ", corpus of " << corpus.size() << std::endl;
  check(!corpus.empty(), "the corpus is not empty");
  std::mt19937_64 random(seed);
  for (const std::string& input : corpus) f(input, true);
  for (unsigned long i = 0; i < rounds; ++i) f(mutate(corpus[random() % corpus.size()], random), false);
}

}  // namespace godwit::testing
