// Tuple sources: where the tuples of a space are. Socket traffic (streams) is one; matching, rd, rdp and count
// are written once, over this interface.
//
// What must stay true: a tuple that for_each shows was in the space at a moment during the call, with those bytes.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "tuplespace/match.hh"
#include "tuplespace/wait.hh"

namespace godwit {

class TupleSource {
 public:
  virtual ~TupleSource() = default;

  /// Calls visit with the source's tuples, oldest first, until it returns false.
  ///
  /// wanted  a hint: tuples that none of them can match may be left out. None: all are shown.
  /// visit   the view lives as long as the call of visit.
  using Visit = std::function<bool(TupleView)>;
  virtual void for_each(std::span<const TemplateView> wanted, const Visit& visit) = 0;

  /// From here on, the coming of a tuple that one of `wanted` may match ends a wait() for the returned mark. Holds
  /// for one wait; subscribe, look, wait.
  virtual uint32_t subscribe(std::span<const TemplateView> wanted) = 0;

  /// Sleeps until something may have come since subscribe() returned `mark`, or until the deadline. May return early.
  virtual void wait(uint32_t mark, Deadline deadline) = 0;
};

/// The oldest tuple that matches any of `wanted`, left where it is; nullopt: absent.
std::optional<Tuple> rdp(TupleSource& source, std::span<const TemplateView> wanted);

/// How many tuples match any of `wanted`, each counted once.
uint64_t count(TupleSource& source, std::span<const TemplateView> wanted);

/// As rdp, waiting until there is one. nullopt: the deadline has passed. A tuple that came and was taken by its
/// reader before we looked is not seen.
std::optional<Tuple> rd(TupleSource& source, std::span<const TemplateView> wanted, Deadline deadline = kForever);

}  // namespace godwit
