#include "tuplespace/source.hh"

namespace godwit {

std::optional<Tuple> rdp(TupleSource& source, std::span<const TemplateView> wanted) {
  std::optional<Tuple> found;
  source.for_each(wanted, [&](TupleView tuple) {
    if (!match_any(wanted, tuple)) return true;
    found = to_tuple(tuple);
    return false;
  });
  return found;
}

uint64_t count(TupleSource& source, std::span<const TemplateView> wanted) {
  uint64_t number = 0;
  source.for_each(wanted, [&](TupleView tuple) {
    number += match_any(wanted, tuple);
    return true;
  });
  return number;
}

std::optional<Tuple> rd(TupleSource& source, std::span<const TemplateView> wanted, Deadline deadline) {
  for (;;) {
    uint32_t mark = source.subscribe(wanted);
    if (auto found = rdp(source, wanted)) return found;
    if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
    source.wait(mark, deadline);
  }
}

}  // namespace godwit
