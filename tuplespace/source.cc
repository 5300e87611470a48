#include "tuplespace/source.hh"

#include <algorithm>

#include "tuplespace/nested.hh"

namespace godwit {
namespace {

bool match_any(std::span<const Template> wanted, TupleView tuple) {
  return std::any_of(wanted.begin(), wanted.end(), [&](const Template& one) { return match(one, tuple); });
}

}  // namespace

std::optional<Tuple> rdp(TupleSource& source, std::span<const Template> wanted) {
  std::optional<Tuple> found;
  source.for_each(wanted, [&](TupleView tuple) {
    if (!match_any(wanted, tuple)) return true;
    found.emplace();
    for (const FieldView& field : tuple) found->add(copy(field));
    return false;
  });
  return found;
}

uint64_t count(TupleSource& source, std::span<const Template> wanted) {
  uint64_t number = 0;
  source.for_each(wanted, [&](TupleView tuple) {
    number += match_any(wanted, tuple);
    return true;
  });
  return number;
}

std::optional<Tuple> rd(TupleSource& source, std::span<const Template> wanted, Deadline deadline) {
  for (;;) {
    uint32_t mark = source.subscribe(wanted);
    if (auto found = rdp(source, wanted)) return found;
    if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
    source.wait(mark, deadline);
  }
}

}  // namespace godwit
