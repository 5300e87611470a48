// Watches: each sees every tuple that comes to its space and matches, once and in order, also what is taken at once.
//
// An out puts what a watch wants into the watch's ring, pinned: who takes the tuple meanwhile leaves its memory to the
// watch. A ring holds kWatched tuples or kWatchedBytes of memory; what comes to a full one is counted, not kept: nobody
// waits for a watch. A space's watches are linked from its root; a watch ends with its thread.
#pragma once
#include <functional>
#include <optional>

#include "tuplespace/result.hh"
#include "tuplespace/store/root.hh"

namespace godwit::store {

struct WatchRef {
  Ref ref = 0;
  uint64_t id = 0;
};
/// Begins one of the calling thread, unless closed(), asked with the root locked, says why not.
/// errors  also no_space_on_device: no memory, or the space has 16.
Result<WatchRef> begin_watch(Desk& desk, Root& root, std::span<const TemplateView> any_of,
                             const std::function<std::optional<Error>()>& closed);

/// The tuple comes to the space: part of the transaction that publishes it. The wild lock held.
void note_arrival(Desk& desk, Root& root, Ref tuple, TupleView fields);
/// After that transaction: wakes the threads of the watches that want the tuple.
void ring_watches(Desk& desk, Root& root, Ref tuple);
/// Those of all of the root's.
void ring_all_watches(Desk& desk, Root& root);
/// Wakes the thread that sleeps on it.
void ring(Watch& watch);

/// Where the n-th tuple that has come is kept.
inline Ref& place_in(Watch& watch, uint64_t n) { return watch.ring[n % (kWatched + 1)]; }

/// The watch, if it is still there. The wild lock held.
Watch* find_watch(Desk& desk, Root& root, WatchRef watch);
/// The first of the ring has been seen.
void pass_arrival(Desk& desk, Watch& watch);

/// Ends it, if it is there.
void end_watch(Desk& desk, Root& root, WatchRef watch);
/// Ends all of that owner's (ours; or a dead thread's).
void end_watches_of(Desk& desk, uint32_t owner);

}  // namespace godwit::store
