#include "tuplespace/store/store.hh"

#include <linux/futex.h>
#include <x86intrin.h>

#include <algorithm>
#include <cstring>
#include <ranges>

#include "tuplespace/shared/spin.hh"
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/delivery.hh"
#include "tuplespace/store/errors.hh"
#include "tuplespace/store/index.hh"
#include "tuplespace/store/look.hh"
#include "tuplespace/store/one_moment.hh"
#include "tuplespace/store/publish.hh"
#include "tuplespace/store/requests.hh"
#include "tuplespace/store/sleep.hh"
#include "tuplespace/store/waiters.hh"

namespace godwit::store {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kRoomTick{50};
constexpr size_t kBalanced = 64;        // steps that the indexes follow a bulk operation at once; the rest comes with later ones
constexpr uint32_t kCopied = 4096;  // bytes of a tuple that a rd copies under the lock; larger ones are pinned

std::optional<Error> too_large(TupleView tuple, uint64_t length) {
  if (tuple.size() <= kMaxArity && length <= kMaxPayload) return std::nullopt;
  return make_error(std::errc::message_size, "the tuple is too large; a gigabyte and 4096 fields fit");
}
Error timed_out() { return make_error(std::errc::timed_out, "no such tuple came in time; inp and rdp look without waiting"); }
Error no_room_in_time() { return make_error(std::errc::timed_out, "no room came in time; take tuples from the space"); }
Error nothing_in_time() { return make_error(std::errc::timed_out, "the time is over; without one a watch goes on"); }
Error not_its_own() {
  return make_error(std::errc::identifier_removed, "a watch is its thread's, and has ended with it; begin another");
}
Error stopped() { return make_error(std::errc::operation_canceled, "the wait was stopped; wait again"); }

Error* over(const Wait& wait, std::optional<Error>& why) {
  if (wait.stop.stop_requested()) why = stopped();
  else if (Clock::now() >= wait.deadline) why = timed_out();
  return why ? &*why : nullptr;
}

// After damage was found: what is in hand goes back as far as it is whole, and the bench is as new.
void abandon(Desk& desk) {
  empty_hands(desk);
  settle(desk, *desk.bench);
  desk.bench->waiter.wanted = desk.bench->wake_count = 0;
  desk.bench->waiter.waiting = Waiting::kNo;
}

// After another exception, of the caller's or for want of memory.
void let_go(Desk& desk) {
  empty_hands(desk);
  try {
    end_wait(desk, desk.bench->waiter);
    settle(desk, *desk.bench);
  } catch (const Damaged&) {
    abandon(desk);
  }
}

// Sleeps until the wait is answered, or over, or a tick has passed.
void await_answer(Bench& bench, const Wait& wait) {
  std::atomic<uint32_t>& state = bench.waiter.state;
  auto answered = [&] { return state.load(std::memory_order_acquire) != kWaits; };
  if (shared::spin(bench.spin_credit, answered)) return;
  std::stop_callback nudge(wait.stop, [&] {
    state.fetch_or(kNudged);
    shared::wake_one(state);
  });
  uint64_t before = shared::monotonic_ns();
  if (uint32_t waits = kWaits; state.compare_exchange_strong(waits, kWaits | kSleeps)) sleep_on(state, kWaits | kSleeps, wait.deadline, kTick);
  shared::learn(bench.spin_credit, shared::monotonic_ns() - before);
}

bool is_busy(const Bench& bench) { return bench.waiter.held || bench.waiter.pinned || bench.chain; }

// While a tuple is shown. What was not delivered goes back then; without memory for its shape it stays in hand, and the
// next operation, or whoever reaps the thread, puts it back.
class Showing {
 public:
  Showing(Desk& desk, Waiter& waiter) : desk_(desk), waiter_(waiter) { desk.showing = true; }
  ~Showing() {
    desk_.showing = false;
    if (waiter_.held || waiter_.pinned) settle(desk_, waiter_);
  }

 private:
  Desk& desk_;
  Waiter& waiter_;
};

// What the waiter has got.
Result<bool> show(Desk& desk, Waiter& waiter, const Store::Receive& receive, const Keeping& keeping = {}) {
  Showing showing(desk, waiter);
  if (!receive(fields_of(desk, stored_at(desk, waiter.held ? waiter.held : waiter.pinned)).view())) return false;
  if (!waiter.held) return true;
  if (keeping.transaction) keep(desk, *keeping.transaction, waiter);
  else if (!keeping.delivery) deliver(desk, waiter);
  else if (*keeping.delivery = deliver_for(desk, waiter, keeping.time); !*keeping.delivery) return segment_full();
  return true;
}

// What the transaction itself has put.
bool show_put(Desk& desk, Transaction& transaction, Ref put, Verb verb, const Store::Receive& receive) {
  if (!receive(fields_of(desk, stored_at(desk, put)).view())) return false;
  if (verb == Verb::kIn) remove_put(desk, transaction, put);
  return true;
}

// In the caller's transaction: the tuple goes from its stripe into the second hand, or to who reads it last.
void take_away(Desk& desk, Stripe& stripe, Ref tuple) {
  unlink(desk, stripe, tuple);
  Stored& stored = stored_at(desk, tuple);
  if (stored.pins & ~kNoPins) desk.set(&stored.pins, stored.pins | kTaken);
  else pick_up(desk, kSecondHand, tuple);
}

// Of a thread's operation that was the last before this one.
bool is_settled(Desk& desk) {
  GODWIT_CHECK(!desk.showing);  // receive must not use a space
  return !is_busy(*desk.bench) || settle(desk, *desk.bench);
}

// Templates of more fields than a tuple can have wait for what cannot come.
std::optional<Error> refuse(std::span<const TemplateView> any_of) {
  for (TemplateView wanted : any_of)
    if (wanted.size() > kMaxArity) return make_error(std::errc::message_size, "the template is too large; 4096 fields fit");
  return std::nullopt;
}

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

// The tuple in the first hand, which is in no space, becomes the first of the chain.
void chain_in_hand(Desk& desk) {
  Bench& bench = *desk.bench;
  Ref ref = bench.in_hand[kFirstHand];
  Stored& stored = stored_at(desk, ref);
  stored.pins = stored.shape = 0;
  stored.newer = bench.chain;
  put_down(desk, kFirstHand);
  desk.set(&bench.chain, ref);
  desk.commit();
}

// Lets the indexes of stripes follow what has come or gone.
void rebalance(Desk& desk, Root& root, size_t tuples) {
  for (size_t i = 0; i < std::min(tuples, kBalanced); ++i)
    for (Stripe& stripe : stripes_of(root)) blaming(root, [&] { balance(desk, stripe); });
}

// A new tuple in the first hand, in no space yet. False: the segment is full.
bool write_tuple(Desk& desk, const Root& root, uint32_t stripe, TupleView tuple, uint64_t length, uint64_t tail = 0) {
  Ref ref = take(desk, kFirstHand, sizeof(Stored) + length + tail);
  if (!ref) return false;
  Stored& stored = desk.at<Stored>(ref);
  stored.length = static_cast<uint32_t>(length);
  stored.place = root.stripes[stripe].place;
  stored.pins = 0;
  encode_to(stored.data, tuple);
  return true;
}

}  // namespace

Result<Store> Store::open(const shared::Segment& segment, std::string_view name) {
  auto desk = Desk::of(segment);
  if (!desk) return desk.error();
  auto root = open_space(**desk, name);
  if (!root) return root.error();
  return Store(segment, root->root, root->generation);
}

Result<Store> Store::create(const shared::Segment& segment, std::string_view name, const SpaceOptions& options) {
  auto desk = Desk::of(segment);
  if (!desk) return desk.error();
  auto root = create_space(**desk, name, options);
  if (!root) return root.error();
  return Store(segment, root->root, root->generation);
}

// Closes the space where damage is found; it costs nobody else anything.
template <class T, class F>
Result<T> Store::work(F f) {
  auto desk = Desk::of(segment_);
  if (!desk) return desk.error();
  try {
    return f(**desk);
  } catch (const Damaged& damage) {
    abandon(**desk);
    Root& root = damage.of ? *damage.of : *root_;
    // One that was dropped meanwhile may be another space by now, laid out otherwise.
    if (&root == root_ && root_->generation.load() != generation_) return *closed();
    close_damaged(root);
    return damaged(root);
  } catch (...) {
    let_go(**desk);
    throw;
  }
}

Result<void> Store::commit(const shared::Segment& segment, Transaction& transaction) {
  auto desk = Desk::of(segment);
  if (!desk) return desk.error();
  try {
    if (auto no = store::commit(**desk, transaction)) return *no;
    return {};
  } catch (const Damaged& damage) {
    abandon(**desk);
    if (damage.of) close_damaged(*damage.of);
    return damage.of ? damaged(*damage.of) : segment_damaged();
  } catch (...) {
    let_go(**desk);
    throw;
  }
}

// With a stripe locked.
std::optional<Error> Store::closed() const { return store::closed(*root_, generation_); }

Result<void> Store::out(TupleView tuple, const Wait* wait) { return put(tuple, std::nullopt, wait); }
Result<void> Store::out_for(Time time, TupleView tuple, const Wait* wait) { return put(tuple, due_after(time), wait); }

Result<void> Store::put(TupleView tuple, std::optional<uint64_t> due, const Wait* wait) {
  uint64_t length = encoded_size(tuple);
  if (auto no = too_large(tuple, length)) return *no;
  return work<void>([&](Desk& desk) -> Result<void> {
    uint32_t stripe = stripe_of(*root_, tuple);
    return until_there_is_room(wait, [&] { return put_once(desk, stripe, tuple, length, due); });
  });
}

Result<void> Store::out_within(Transaction& transaction, TupleView tuple) {
  uint64_t length = encoded_size(tuple);
  if (auto no = too_large(tuple, length)) return *no;
  return work<void>([&](Desk& desk) -> Result<void> {
    if (auto no = closed()) return *no;
    if (!write_tuple(desk, *root_, stripe_of(*root_, tuple), tuple, length)) return segment_full();
    add_put(desk, transaction, generation_);
    return {};
  });
}

Result<bool> Store::out_if(Condition condition, std::span<const TemplateView> any_of, TupleView tuple) {
  uint64_t length = encoded_size(tuple);
  if (auto no = too_large(tuple, length)) return *no;
  if (auto no = refuse(any_of)) return *no;
  return work<bool>([&](Desk& desk) -> Result<bool> {
    if (!is_settled(desk) || !write_tuple(desk, *root_, stripe_of(*root_, tuple), tuple, length)) return segment_full();
    auto put = put_if(desk, condition, any_of, tuple);
    for (Hand hand : kHands) give(desk, hand);
    wake_answered(desk);
    made_room(*root_);
    return put;
  });
}

// What is in the first hand. The tuple whose place it takes is in the second one then, unless somebody reads it.
Result<bool> Store::put_if(Desk& desk, Condition condition, std::span<const TemplateView> any_of, TupleView tuple) {
  Stored& stored = stored_at(desk, desk.bench->in_hand[kFirstHand]);
  bool alone = stripe_of(*root_, any_of) == stored.place.stripe;
  Locked locked(desk, *root_, alone ? stored.place.stripe : kStripes);
  Stripe& stripe = alone ? locked.stripe() : root_->stripes[stored.place.stripe];
  if (auto no = closed()) return *no;
  Found found = find(desk, locked.stripes(), any_of);
  if ((condition == Condition::kInstead) != (found.tuple != 0)) return false;
  uint64_t memory = memory_of(desk, desk.bench->in_hand[kFirstHand]), freed = found.tuple ? memory_of(desk, found.tuple) : 0;
  if (root_->capacity && stripe.bytes + memory - freed > root_->capacity) return memory > root_->capacity ? larger_than_the_space() : space_full();
  Ref shape = shape_for(desk, stripe, tuple);
  if (!shape) return segment_full();
  stored.age = next_age(stripe);
  publish(desk, *root_, stripe, desk.bench->in_hand[kFirstHand], shape, tuple, true, [&] {
    put_down(desk, kFirstHand);
    if (found.tuple) take_away(desk, *found.stripe, found.tuple);
  });
  return true;
}

// Tries again while there is none, if the space is one where out waits for it.
template <class F>
Result<void> Store::until_there_is_room(const Wait* wait, F f) {
  for (bool wanted = false;;) {
    uint32_t room = root_->room.load();
    std::optional<Error> no = f();
    if (!no) return {};
    if (!wait || !root_->blocks_when_full || no->code != std::errc::no_space_on_device) return *no;
    if (!std::exchange(wanted, true)) {
      root_->room_wanted.store(1);
      continue;  // what room was made until now, is seen; from now on it is told
    }
    wanted = false;
    std::optional<Error> why;
    if (over(*wait, why)) return why->code == std::errc::timed_out ? no_room_in_time() : *why;
    sleep_on(root_->room, room, wait->deadline, kRoomTick);
  }
}

std::optional<Error> Store::put_once(Desk& desk, uint32_t number, TupleView tuple, uint64_t length, std::optional<uint64_t> due) {
  if (!write_tuple(desk, *root_, number, tuple, length, due ? mortal_tail(length) : 0)) return segment_full();
  Ref ref = desk.bench->in_hand[kFirstHand];
  Stored& stored = stored_at(desk, ref);
  if (due) {
    make_mortal(desk, stored, *due);
    if (!take_lease(desk)) return give(desk, kFirstHand), segment_full();
  }
  std::optional<Error> no;
  {
    Locked locked(desk, *root_, number);
    Stripe& stripe = locked.stripe();
    no = closed();
    uint64_t memory = memory_of(desk, ref);
    bool fits = !root_->capacity || stripe.bytes + memory <= root_->capacity;
    Ref shape = !no && fits ? shape_for(desk, stripe, tuple) : 0;
    if (shape) {
      stored.age = next_age(stripe);
      publish(desk, *root_, stripe, ref, shape, tuple, true, [&] { put_down(desk, kFirstHand); });
      balance(desk, stripe);
    } else if (!no) {
      no = fits ? segment_full() : memory > root_->capacity ? larger_than_the_space() : space_full();
    }
  }
  give(desk, kFirstHand);
  if (due) give(desk, kThirdHand);
  wake_answered(desk);
  return no;
}

Result<bool> Store::in(std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive) {
  return get(Verb::kIn, any_of, wait, receive);
}
Result<bool> Store::rd(std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive) {
  return get(Verb::kRd, any_of, wait, receive);
}
Result<bool> Store::in_within(Transaction& transaction, std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive) {
  return get(Verb::kIn, any_of, wait, receive, {&transaction});
}
Result<bool> Store::rd_within(Transaction& transaction, std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive) {
  return get(Verb::kRd, any_of, wait, receive, {&transaction});
}
Result<std::optional<Delivery>> Store::in_for(Time time, std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive) {
  std::optional<Delivery> delivery;
  auto got = get(Verb::kIn, any_of, wait, receive, {nullptr, time, &delivery});
  if (!got) return got.error();
  return delivery;
}

Result<bool> Store::acknowledge(const Delivery& delivery) {
  return work<bool>([&](Desk& desk) -> Result<bool> { return store::acknowledge(desk, *root_, delivery); });
}
Result<bool> Store::release(const Delivery& delivery, Time delay) {
  return work<bool>([&](Desk& desk) -> Result<bool> { return store::release(desk, *root_, delivery, delay); });
}
Result<bool> Store::extend(const Delivery& delivery, Time time) {
  return work<bool>([&](Desk& desk) -> Result<bool> { return store::extend(desk, *root_, delivery, time); });
}

Result<bool> Store::get(Verb verb, std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive,
                        const Keeping& keeping) {
  if (auto no = refuse(any_of)) return *no;
  return work<bool>([&](Desk& desk) -> Result<bool> {
    if (!is_settled(desk)) return segment_full();
    NewWait wanted{verb, stripe_of(*root_, any_of), any_of, 0};
    std::string copied;
    for (std::optional<Error> why;;) {
      Transaction* transaction = keeping.transaction;
      bool own = transaction && transaction->puts;  // which nobody else can take: they are looked at before a wait
      auto seen = look(desk, desk.bench->waiter, wanted, wait && !why && !own, &copied);
      if (seen && *seen == Seen::kNone && own) {
        if (Ref put = find_put(desk, *transaction, *root_, any_of)) return show_put(desk, *transaction, put, verb, receive);
        seen = look(desk, desk.bench->waiter, wanted, wait && !why, &copied);
      }
      if (!seen) return seen.error();
      if (*seen == Seen::kGot) return store::show(desk, desk.bench->waiter, receive, keeping);
      if (*seen == Seen::kCopied) return receive(fields_of(copied).view());
      if (!wait) return false;
      if (why) return *why;
      await_answer(*desk.bench, *wait);
      over(*wait, why);
      end_wait(desk, desk.bench->waiter);
    }
  });
}

// Gets hold of a tuple that is there now. Without one begins to wait, if there is a ticket for it.
// copied: of a rd a copy will do; null: not here.
Result<Store::Seen> Store::look(Desk& desk, Waiter& waiter, NewWait& wanted, bool waits, std::string* copied) {
  if (waiter.held || waiter.pinned) return Seen::kGot;  // the wait was answered
  Locked locked(desk, *root_, wanted.stripe);
  if (auto no = closed()) return *no;
  Found found = find(desk, locked.stripes(), wanted.any_of);
  if (!found.tuple && waits) {
    if (!write_wanted(desk, wanted.any_of)) return segment_full();
    if (!wanted.ticket) wanted.ticket = __rdtsc();
    enqueue(desk, *root_, waiter, wanted);
    desk.commit();
  }
  if (!found.tuple) return Seen::kNone;
  Stored& stored = stored_at(desk, found.tuple);
  if (wanted.verb == Verb::kIn) {
    take_out(desk, *found.stripe, found.tuple, waiter);
    balance(desk, *found.stripe);
    return Seen::kGot;
  }
  if (!copied || stored.length > kCopied) {
    pin(desk, found.tuple, waiter);
    return Seen::kGot;
  }
  copied->assign(encoding_of(desk, stored));
  return Seen::kCopied;
}

Result<uint32_t> Store::request(Verb verb, std::span<const TemplateView> any_of, uint64_t ticket) {
  if (auto no = refuse(any_of)) return *no;
  return work<uint32_t>([&](Desk& desk) -> Result<uint32_t> {
    Waiter* request = new_request(desk);
    if (!request) return make_error(std::errc::no_space_on_device, "no room for another request; " + std::to_string(kRequests) + " of a thread are the most");
    NewWait wanted{verb, stripe_of(*root_, any_of), any_of, ticket};
    auto seen = look(desk, *request, wanted, true, nullptr);
    if (!seen) return free_request(desk, *desk.bench, *request), seen.error();
    if (*seen == Seen::kGot) note_answered(desk, *request);
    return request->number;
  });
}

Result<std::optional<bool>> Store::receive(uint32_t number, const Receive& receive) {
  return work<std::optional<bool>>([&](Desk& desk) -> Result<std::optional<bool>> {
    Waiter& request = request_at(desk, number);
    bool waits = request.state.load(std::memory_order_acquire) & kWaits;
    bool answered = request.held || request.pinned;
    auto no = closed();
    if (waits && !answered && !no) return std::optional<bool>();
    end_wait(desk, request);
    answered = request.held || request.pinned;
    bool received = answered && store::show(desk, request, receive).value();
    if (settle(desk, request)) free_request(desk, *desk.bench, request);
    if (!answered && no) return *no;
    return std::optional(received);
  });
}

void Store::withdraw(uint32_t number) {
  (void)work<void>([&](Desk& desk) -> Result<void> {
    Waiter& request = request_at(desk, number);
    end_wait(desk, request);
    if (settle(desk, request)) free_request(desk, *desk.bench, request);
    return {};
  });
}

Result<uint64_t> Store::count_within(const Transaction& transaction, std::span<const TemplateView> any_of) {
  auto others = count(any_of);
  if (!others) return others;
  return work<uint64_t>([&](Desk& desk) -> Result<uint64_t> { return *others + count_puts(desk, transaction, *root_, any_of); });
}

Result<uint64_t> Store::count(std::span<const TemplateView> any_of) {
  if (any_of.empty()) return 0;
  return work<uint64_t>([&](Desk& desk) -> Result<uint64_t> {
    Locked locked(desk, *root_, stripe_of(*root_, any_of));
    if (auto no = closed()) return *no;
    return godwit::store::count(desk, locked.stripes(), any_of);
  });
}

Result<void> Store::out_all(std::span<const Tuple> tuples, const Wait* wait) {
  for (const Tuple& tuple : tuples) {
    auto fields = views_of(tuple);
    if (auto no = too_large(fields, encoded_size(fields))) return *no;
  }
  return work<void>([&](Desk& desk) -> Result<void> {
    if (!is_settled(desk)) return segment_full();
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
    std::vector<Ref> all;
    {
      Locked locked(desk, ranges_of(*root_, *to.root_));
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
  return bytes > root_->capacity ? larger_than_the_space() : space_full();
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
      uint64_t bytes = sizeof(Stored) + encoding_of(desk, stored).size();
      ref = take(desk, kFirstHand, bytes);
      if (!ref) return settle(desk, bench), false;
      Stored& copy = desk.at<Stored>(ref);
      std::memcpy(static_cast<void*>(&copy), &stored, bytes);
      chain_in_hand(desk);
    } else {
      unlink(desk, root_->stripes[stored.place.stripe], ref);
      desk.set(&stored.shape, Ref{0});
      desk.set(&stored.newer, bench.chain);
      desk.set(&bench.chain, ref);
      desk.commit();
      give(desk, kThirdHand);
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

Result<std::vector<Tuple>> Store::all(std::span<const TemplateView> any_of) {
  return work<std::vector<Tuple>>([&](Desk& desk) -> Result<std::vector<Tuple>> {
    Locked locked(desk, *root_, stripe_of(*root_, any_of));
    if (auto no = closed()) return *no;
    std::vector<Tuple> tuples;
    for (Ref ref : matches_of(desk, locked.stripes(), any_of)) tuples.push_back(to_tuple(fields_of(desk, stored_at(desk, ref)).view()));
    return tuples;
  });
}


Result<Watching> Store::watch(std::span<const TemplateView> any_of) {
  if (auto no = refuse(any_of)) return *no;
  return work<Watching>([&](Desk& desk) -> Result<Watching> {
    auto begun = begin_watch(desk, *root_, any_of, [&] { return closed(); });
    if (!begun) return begun.error();
    return Watching{*begun, desk.owner()};
  });
}

Result<bool> Store::next(Watching& watching, const Wait* wait, const std::function<void(TupleView)>& show) {
  return work<bool>([&](Desk& desk) -> Result<bool> {
    if (watching.owner != desk.owner()) return not_its_own();
    for (;;) {
      uint32_t bell = 0;
      if (watching.seen == watching.come)
        if (auto no = look_at_watch(desk, watching, &bell)) return *no;
      Watch& watch = desk.at<Watch>(watching.watch.ref);
      if (watching.seen != watching.come) {
        show(fields_of(desk, stored_at(desk, place_in(watch, watching.seen))).view());
        pass_arrival(desk, watch);
        ++watching.seen;
        return true;
      }
      if (!wait) return false;
      std::optional<Error> why;
      if (over(*wait, why)) return why->code == std::errc::timed_out ? nothing_in_time() : *why;
      std::stop_callback nudge(wait->stop, [&] { ring(watch); });
      sleep_on(watch.bell, bell, wait->deadline, kTick);
    }
  });
}

// What has come to it by now; if nothing, its bell as it is before anything does. An error: it is over.
std::optional<Error> Store::look_at_watch(Desk& desk, Watching& watching, uint32_t* bell) const {
  Locked locked(desk, *root_, kStripes);
  Watch* watch = find_watch(desk, *root_, watching.watch);
  if (!watch) return not_its_own();
  watching.come = watch->come;
  watching.missed = watch->missed;
  if (watching.seen != watching.come) return std::nullopt;
  watch->sleeps = 1;
  *bell = watch->bell;
  return closed();
}

void Store::end_watch(const Watching& watching) {
  (void)work<void>([&](Desk& desk) -> Result<void> {
    if (watching.owner == desk.owner()) store::end_watch(desk, *root_, watching.watch);
    return {};
  });
}

}  // namespace godwit::store
