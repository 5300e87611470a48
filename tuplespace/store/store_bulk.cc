// Many tuples at one moment: out_all, collect, copy_collect. They go by the bench's chain (layout.hh).
#include <algorithm>
#include <cstring>
#include <ranges>

#include "tuplespace/store/index.hh"
#include "tuplespace/store/leases.hh"
#include "tuplespace/store/look.hh"
#include "tuplespace/store/one_moment.hh"
#include "tuplespace/store/publish.hh"
#include "tuplespace/store/store_work.hh"

namespace godwit::store {
namespace {

constexpr size_t kBalanced = 64;  // steps that the indexes follow a bulk operation at once; the rest comes with later ones

// Where tuples that go to another space are missing, and where they come.
std::vector<Stripe*> stripes_changed(Desk& desk, const std::vector<Ref>& tuples, Root& to, bool copies) {
  std::vector<Stripe*> stripes;
  for (Ref ref : tuples) {
    const Stored& stored = stored_at(desk, ref);
    if (!copies) stripes.push_back(&root_of(desk, stored.place.space).stripes[stored.place.stripe]);
    stripes.push_back(&to.stripes[stripe_of(to, fields_of(desk, stored).view())]);
  }
  return stripes;
}

// The tuple in the first hand, which is in no space, becomes the first of the chain; and its lease, if it is mortal, its own.
void chain_in_hand(Desk& desk) {
  Bench& bench = *desk.bench;
  Ref ref = bench.in_hand[kFirstHand];
  Stored& stored = stored_at(desk, ref);
  stored.shape = 0;
  stored.newer = bench.chain;
  put_down(desk, kFirstHand);
  put_down(desk, kThirdHand);
  desk.set(&bench.chain, ref);
  desk.commit();
}

// A copy for that place in the first hand, gone when the tuple is. False: no memory.
bool copy_tuple(Desk& desk, const Stored& stored, Place place) {
  uint64_t length = encoding_of(desk, stored).size();
  bool mortal = stored.pins & kMortal;
  Ref ref = take(desk, kFirstHand, sizeof(Stored) + length + (mortal ? mortal_tail(length) : 0));
  if (!ref) return false;
  Stored& copy = desk.at<Stored>(ref);
  std::memcpy(static_cast<void*>(&copy), &stored, sizeof(Stored) + length);
  copy.pins = 0;
  copy.place = place;
  if (!mortal || make_mortal(desk, copy, due_of(desk, stored))) return true;
  give(desk, kFirstHand);
  return false;
}

// Lets the indexes of stripes follow what has come or gone.
void rebalance(Desk& desk, Root& root, size_t tuples) {
  for (size_t i = 0; i < std::min(tuples, kBalanced); ++i)
    for (Stripe& stripe : stripes_of(root)) blaming(root, [&] { balance(desk, stripe); });
}

}  // namespace

Result<void> Store::out_all(std::span<const Tuple> tuples, const Wait* wait) {
  for (const Tuple& tuple : tuples) {
    auto fields = views_of(tuple);
    if (auto no = too_large(fields, encoded_size(fields))) return *no;
  }
  return work<void>([&](Desk& desk) -> Result<void> {
    if (!is_settled(desk)) return segment_full();
    if (is_durable())
      return until_there_is_room(wait, [&] {
        return error_of(durably<void>(desk, [&](Transaction& own) {
          Result<void> put;
          for (size_t i = 0; put && i < tuples.size(); ++i) put = out_within(own, views_of(tuples[i]));
          return put;
        }));
      });
    return until_there_is_room(wait, [&] {
      auto no = put_all_once(desk, tuples);
      if (no) settle(desk, *desk.bench);
      return no;
    });
  });
}

std::optional<Error> Store::put_all_once(Desk& desk, std::span<const Tuple> tuples) {
  begin_chain(desk, true);
  std::vector<Ref> written;
  if (!write_chain(desk, tuples, &written)) return segment_full();
  Locked locked(desk, *root_, kStripes);
  if (auto no = closed()) return no;
  if (auto no = lacks_room_for(desk, written)) return no;
  OneMoment moment(desk, stripes_changed(desk, written, *root_, true));
  receive_chain(desk);
  rebalance(desk, *root_, written.size());
  return std::nullopt;
}

// New tuples, which are in no space yet, on the chain in that order.
bool Store::write_chain(Desk& desk, std::span<const Tuple> tuples, std::vector<Ref>* written) {
  for (size_t i = tuples.size(); i-- > 0;) {
    auto fields = views_of(tuples[i]);
    if (!write_tuple(desk, *root_, stripe_of(*root_, fields), fields, encoded_size(fields))) return false;
    written->push_back(desk.bench->in_hand[kFirstHand]);
    chain_in_hand(desk);
  }
  return true;
}

Result<uint64_t> Store::collect(Store& to, std::span<const TemplateView> any_of) { return gather(to, any_of, false); }
Result<uint64_t> Store::copy_collect(Store& to, std::span<const TemplateView> any_of) { return gather(to, any_of, true); }

Result<uint64_t> Store::gather(Store& to, std::span<const TemplateView> any_of, bool copies) {
  if (root_ == to.root_) return make_error(std::errc::invalid_argument, "collect moves tuples to another space; name that one");
  return work<uint64_t>([&](Desk& desk) -> Result<uint64_t> {
    if (!is_settled(desk)) return segment_full();
    if (is_durable() || to.is_durable()) return gather_durably(desk, to, any_of, copies);
    std::vector<Ref> all;
    {
      LockedRanges locked(desk, ranges_of(*root_, *to.root_));
      if (auto no = closed()) return *no;
      if (auto no = to.closed()) return *no;
      all = matches_of(desk, stripes_of(*root_), any_of);
      to.begin_chain(desk, copies);
      if (auto no = to.lacks_room_for(desk, all)) return *no;
      OneMoment moment(desk, stripes_changed(desk, all, *to.root_, copies));
      if (!chain(desk, all, copies)) return segment_full();
      to.receive_chain(desk);
      rebalance(desk, *root_, all.size());
      rebalance(desk, *to.root_, all.size());
    }
    if (!copies) made_room(*root_);
    return all.size();
  });
}

Result<uint64_t> Store::gather_durably(Desk& desk, Store& to, std::span<const TemplateView> any_of, bool copies) {
  return durably<uint64_t>(desk, [&](Transaction& own) -> Result<uint64_t> {
    std::optional<Error> no;
    uint64_t number = 0;
    auto ranges = ranges_of(*root_, *to.root_);
    auto done = store::commit_if(desk, own, ranges, [&]() -> std::optional<std::vector<Found>> {
      if (no = closed(); no) return std::nullopt;
      if (no = to.closed(); no) return std::nullopt;
      std::vector<Found> taken;
      for (Ref ref : matches_of(desk, stripes_of(*root_), any_of)) {
        const Stored& stored = stored_at(desk, ref);
        Stripe& stripe = to.root_->stripes[stripe_of(*to.root_, fields_of(desk, stored).view())];
        if (!copy_tuple(desk, stored, stripe.place)) return no = segment_full(), std::nullopt;
        add_put(desk, own, to.generation_, 0);
        if (!copies) taken.push_back({ref, &root_->stripes[stored.place.stripe]});
        ++number;
      }
      return taken;
    });
    if (no) return *no;
    return done ? Result<uint64_t>(number) : done.error();
  });
}

// Of capacity; and the shapes' records there, so that nothing can fail later.
std::optional<Error> Store::lacks_room_for(Desk& desk, const std::vector<Ref>& tuples) {
  uint64_t bytes = 0;
  for (Ref ref : tuples) {
    Fields fields = fields_of(desk, stored_at(desk, ref));
    bytes += memory_of(desk, ref);
    Stripe& stripe = root_->stripes[stripe_of(*root_, fields.view())];
    if (!blaming(*root_, [&] { return shape_for(desk, stripe, fields.view()); })) return segment_full();
  }
  if (!root_->capacity || root_->stripes[0].bytes + bytes <= root_->capacity) return std::nullopt;
  return no_room(*root_, bytes);
}

// Tuples that are chained from now on come here.
void Store::begin_chain(Desk& desk, bool copies) const {
  Bench& bench = *desk.bench;
  bench.chain_decided = 0;
  bench.chain_space = root_->number;
  bench.chain_copies = copies;
  bench.chain_generation = generation_;
}

// Takes the tuples or copies of them onto the bench's chain, the oldest to be the first of it. False: no room, and nothing has changed.
bool Store::chain(Desk& desk, const std::vector<Ref>& tuples, bool copies) {
  Bench& bench = *desk.bench;
  for (Ref ref : std::views::reverse(tuples)) {
    Stored& stored = stored_at(desk, ref);
    if (copies) {
      if (!copy_tuple(desk, stored, stored.place)) return settle(desk, bench), false;
      chain_in_hand(desk);
    } else {
      unlink(desk, root_->stripes[stored.place.stripe], ref);
      desk.set(&stored.shape, Ref{0});
      desk.set(&stored.newer, bench.chain);
      desk.set(&bench.chain, ref);
      desk.commit();
    }
  }
  return true;
}

// From the decision on they are all here, whoever sees to it.
void Store::receive_chain(Desk& desk) {
  desk.set(&desk.bench->chain_decided, 1u);
  desk.commit();
  while (desk.bench->chain && put_chained(desk, *desk.bench)) {
  }
  if (!desk.bench->chain) desk.bench->chain_decided = 0;
}

}  // namespace godwit::store
