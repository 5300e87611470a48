// Whether a history of operations on one space, each with the moments at which it began and ended, can be put in an order
// that a list of tuples allows: every operation between its two moments, an in or rd of the oldest tuple that matches, and
// "absent" only where none does. All complete operations of up to 64 are searched, and what was seen once is not again.
//
// source  Wing and Gong, "Testing and verifying concurrent objects", 1993; Lowe, "Testing for linearizability", 2017.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "tuplespace/match.hh"
#include "tuplespace/text.hh"

namespace godwit::testing {

struct Event {
  enum Kind { kOut, kTake, kRead, kCount } kind;
  uint64_t begin, end;
  Template wanted;                  // but of an out
  std::optional<Tuple> tuple = {};  // put, or got; none: absent
  uint64_t number = 0;              // counted
};

class History {
 public:
  explicit History(std::span<const Event> events) : events_(events), size_(events.size()) {
    for (const Event& a : events)
      for (const Event& b : events) {
        matches_.push_back(b.kind == Event::kOut && match(a.wanted, *b.tuple));
        same_.push_back(a.tuple && b.tuple && identical(*a.tuple, *b.tuple));
      }
  }

  bool is_linearizable() { return size_ <= 64 && search(0, {}); }

 private:
  using State = std::string;  // the outs whose tuples are there, oldest first

  // Whether the events that are not `done` can follow in this state.
  bool search(uint64_t done, const State& state) {
    if (std::popcount(done) == static_cast<int>(size_)) return true;
    if (!seen_.insert(std::string(reinterpret_cast<const char*>(&done), sizeof done) + state).second) return false;
    uint64_t first_end = ~0ull;
    for (size_t i = 0; i < size_; ++i)
      if (!(done >> i & 1)) first_end = std::min(first_end, events_[i].end);
    for (size_t i = 0; i < size_; ++i) {
      if ((done >> i & 1) || events_[i].begin > first_end) continue;
      State next = state;
      if (step(i, next) && search(done | uint64_t{1} << i, next)) return true;
    }
    return false;
  }

  // Whether the event can happen in the state, which it changes.
  bool step(size_t i, State& state) const {
    const Event& event = events_[i];
    if (event.kind == Event::kOut) return state.push_back(static_cast<char>(i)), true;
    auto fits = [&](char out) { return matches_[i * size_ + static_cast<size_t>(out)]; };
    if (event.kind == Event::kCount) return static_cast<uint64_t>(std::count_if(state.begin(), state.end(), fits)) == event.number;
    auto oldest = std::find_if(state.begin(), state.end(), fits);
    if (oldest == state.end() || !event.tuple) return oldest == state.end() && !event.tuple;
    if (!same_[i * size_ + static_cast<size_t>(*oldest)]) return false;
    if (event.kind == Event::kTake) state.erase(oldest);
    return true;
  }

  std::span<const Event> events_;
  size_t size_;
  std::vector<bool> matches_, same_;
  std::unordered_set<std::string> seen_;
};

inline bool is_linearizable(std::span<const Event> events) { return History(events).is_linearizable(); }

inline std::string describe(std::span<const Event> events) {
  static constexpr const char* kNames[] = {"out", "in", "rd", "count"};
  std::string text;
  for (const Event& event : events) {
    text += std::to_string(event.begin) + " to " + std::to_string(event.end) + ": " + kNames[event.kind] + " ";
    if (event.kind != Event::kOut) text += to_text(event.wanted) + " = ";
    if (event.kind == Event::kCount) text += std::to_string(event.number) + "\n";
    else text += (event.tuple ? to_text(*event.tuple) : "absent") + "\n";
  }
  return text;
}

}  // namespace godwit::testing
