// What a log of changes comes to: the spaces that are there, and the puts that nothing has taken.
//
// Two passes over the same changes, so that only what was taken is in memory and never the tuples:
//
//     for (change : log) survivors.note(change);
//     for (change : log) if (survivors.keeps(change)) ...
#pragma once
#include <map>
#include <string>
#include <unordered_map>

#include "tuplespace/store/record.hh"

namespace godwit {

class Survivors {
 public:
  struct Space {
    std::string name;
    SpaceOptions options;
    uint64_t last_age = 0;  // of all that ever came
  };

  void note(const store::Change& change);
  /// In the second pass: whether it is a put whose tuple is there in the end.
  bool keeps(const store::Change& change);
  /// By their numbers; after the first pass.
  const std::map<uint64_t, Space>& spaces() const { return spaces_; }

 private:
  struct Tuple {
    uint64_t space, age;
    bool operator==(const Tuple&) const = default;
  };
  struct Hash {
    size_t operator()(const Tuple& tuple) const { return std::hash<uint64_t>()(tuple.age * 0x9E3779B97F4A7C15ull ^ tuple.space); }
  };
  std::map<uint64_t, Space> spaces_;
  std::unordered_map<Tuple, uint64_t, Hash> taken_;  // how often: a tuple that came back may be taken again
};

}  // namespace godwit
