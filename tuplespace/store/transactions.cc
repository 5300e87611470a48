#include "tuplespace/store/transactions.hh"

#include <x86intrin.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>

#include "tuplespace/match.hh"
#include "tuplespace/store/blocks.hh"
#include "tuplespace/store/delivery.hh"
#include "tuplespace/store/durability.hh"
#include "tuplespace/store/errors.hh"
#include "tuplespace/store/index.hh"
#include "tuplespace/store/leases.hh"
#include "tuplespace/store/one_moment.hh"
#include "tuplespace/store/publish.hh"
#include "tuplespace/store/shapes.hh"

namespace godwit::store {
namespace {

// f(ref, tuple) along a list; it may change the tuple, and where the list goes on is known before.
template <class F>
void for_each_of(const Desk& desk, Ref list, F f) {
  Steps steps(desk, ~0ull);
  for (Ref next; list; list = next) {
    Stored& stored = stored_at(desk, list);
    next = stored.newer;
    steps.take();
    f(list, stored);
  }
}

Root& root_for(Desk& desk, const Stored& stored) { return root_of(desk, stored.place.space); }
Stripe& stripe_for(Desk& desk, const Stored& stored) {
  expect(stored.place.stripe < kStripes);
  return root_for(desk, stored).stripes[stored.place.stripe];
}

// The stripes that a list's tuples are of, each once.
struct Places {
  std::vector<Range> ranges;
  std::vector<Stripe*> stripes;
};
Places places_of(Desk& desk, Ref list) {
  Places places;
  places.ranges.reserve(4);
  places.stripes.reserve(4);
  for_each_of(desk, list, [&](Ref, const Stored& stored) {
    Stripe* stripe = &stripe_for(desk, stored);
    if (std::find(places.stripes.begin(), places.stripes.end(), stripe) != places.stripes.end()) return;
    places.stripes.push_back(stripe);
    places.ranges.push_back({&root_for(desk, stored), stored.place.stripe});
  });
  return places;
}

bool is_of(const Root& root, const Stored& stored) { return stored.place.space == root.number; }

// What a put, which is linked nowhere, keeps in its place in the first index.
struct PutNote {
  uint64_t age;     // that it will have; 0: the newest then
  uint64_t is_new;  // else it comes back
};
static_assert(sizeof(PutNote) == sizeof(Node));
PutNote note_of(const Stored& stored) {
  PutNote note;
  std::memcpy(&note, &stored.nodes[0], sizeof note);
  return note;
}
void set_note(Stored& stored, const PutNote& note) { std::memcpy(static_cast<void*>(&stored.nodes[0]), &note, sizeof note); }

// Everything that can fail, with the stripes locked. freed: that the commit frees in `in`.
std::optional<Error> prepare(Desk& desk, const Transaction& transaction, const Root* in = nullptr, uint64_t freed = 0) {
  std::map<Root*, uint64_t> bytes;
  std::optional<Error> no;
  for_each_of(desk, transaction.puts, [&](Ref ref, const Stored& stored) {
    Root& root = root_for(desk, stored);
    if (!no) no = closed(root, static_cast<uint32_t>(stored.age));
    if (no) return;
    if (root.capacity && note_of(stored).is_new) bytes[&root] += memory_of(desk, ref);
    Ref shape = blaming(root, [&] { return shape_for(desk, stripe_for(desk, stored), fields_of(desk, stored).view()); });
    if (!shape) no = segment_full();
  });
  for (const auto& [root, more] : bytes)
    if (!no && root->stripes[0].bytes + more - (root == in ? freed : 0) > root->capacity) no = no_room(*root, more);
  return no;
}

// Takes the tuples of a list off it, one by one: f(root, tuple, next), which lets the list go on with `next`. What is of a
// damaged space stays with that, which is closed. returns false when f does.
template <class F>
bool take_off(Desk& desk, Ref& list, F f) {
  Steps steps(desk, ~0ull);
  for (; list; steps.take()) {
    Stored& stored = stored_at(desk, list);
    Root& root = root_for(desk, stored);
    Ref next = stored.newer;
    try {
      auto let_go = [&] { desk.set(&list, next); };
      if (!f(root, stored, std::ref(let_go))) return false;
    } catch (const Damaged&) {
      empty_hands(desk);
      close_damaged(root);
      desk.set(&list, next);
      desk.commit();
    }
    wake_answered(desk);
  }
  return true;
}

// Nothing fails: the shapes are there.
void publish_puts(Desk& desk, Transaction& transaction) {
  (void)take_off(desk, transaction.puts, [&](Root& root, Stored& stored, const std::function<void()>& let_go) {
    PutNote note = note_of(stored);
    if (note.age) stored.age = note.age;
    Comes comes = !note.is_new ? Comes::kBack : note.age ? Comes::kNewAtItsAge : Comes::kNew;
    bool dropped = root.born > (note.is_new ? transaction.decided_at : note.age);
    auto leave = [&] {
      let_go();
      if (is_log(desk, root)) desk.set(&desk.header().log_last, note.age);
    };
    return put_into(desk, root, stripe_for(desk, stored), transaction.puts, fields_of(desk, stored).view(), comes, dropped, std::ref(leave));
  });
}

// False: no memory for a shape.
bool put_back_taken(Desk& desk, Transaction& transaction) {
  return take_off(desk, transaction.taken, [&](Root& root, Stored& stored, const std::function<void()>& let_go) {
    return put_into(desk, root, stripe_for(desk, stored), transaction.taken, fields_of(desk, stored).view(), Comes::kBack,
                    stored.age < root.born, let_go);
  });
}

void discard_taken(Desk& desk, Transaction& transaction) {
  (void)take_off(desk, transaction.taken, [&](Root& root, Stored&, const std::function<void()>& let_go) {
    discard_with_its_lock(desk, transaction.taken, let_go);
    made_room(root);
    return true;
  });
}

void discard_puts(Desk& desk, Transaction& transaction) {
  Steps steps(desk, ~0ull);
  for (; transaction.puts; steps.take()) {
    const Stored& stored = stored_at(desk, transaction.puts);
    pick_up(desk, kFirstHand, transaction.puts);
    pick_up_lease(desk, stored);
    desk.set(&transaction.puts, stored.newer);
    desk.commit();
    give(desk, kFirstHand);
    give(desk, kThirdHand);
  }
}

void decide(Desk& desk, Transaction& transaction) {
  desk.set(&transaction.decided_at, static_cast<uint64_t>(__rdtsc()));
  desk.set(&transaction.progress, Progress::kDecided);
  desk.commit();
}

void begin_anew(Desk& desk, Transaction& transaction) {
  desk.set(&transaction.last_put, Ref{0});
  desk.set(&transaction.is_durable, 0u);
  desk.set(&transaction.progress, Progress::kOpen);
  desk.commit();
}

// After the decision, whoever sees to it.
void finish(Desk& desk, Transaction& transaction) {
  discard_taken(desk, transaction);
  begin_anew(desk, transaction);
}

}  // namespace

Transaction* begin_transaction(Desk& desk) {
  Ref ref = take(desk, kSecondHand, sizeof(Transaction));
  if (!ref) return nullptr;
  Transaction& made = desk.at<Transaction>(ref);
  std::memset(static_cast<void*>(&made), 0, sizeof made);
  made.owner = desk.owner();
  made.next = desk.bench->transactions;
  desk.set(&desk.bench->transactions, ref);
  put_down(desk, kSecondHand);
  desk.commit();
  return &made;
}

void keep(Desk& desk, Transaction& transaction, Ref tuple, const std::function<void()>& let_go) {
  Stored& stored = stored_at(desk, tuple);
  desk.set(&stored.shape, Ref{0});
  desk.set(&stored.newer, transaction.taken);
  desk.set(&transaction.taken, tuple);
  if (stored.pins & kLogged) desk.set(&transaction.is_durable, 1u);
  let_go();
  desk.commit();
}

void add_put(Desk& desk, Transaction& transaction, uint32_t generation, uint64_t age) {
  Ref ref = desk.bench->in_hand[kFirstHand];
  Stored& stored = stored_at(desk, ref);
  stored.age = generation;
  stored.shape = stored.newer = 0;
  set_note(stored, {age, age == 0});
  if (root_for(desk, stored).keeps == Keeps::kAll) desk.set(&transaction.is_durable, 1u);
  desk.set(transaction.puts ? &stored_at(desk, transaction.last_put).newer : &transaction.puts, ref);
  desk.set(&transaction.last_put, ref);
  put_down(desk, kFirstHand);
  if (stored.pins & kMortal) put_down(desk, kThirdHand);
  desk.commit();
}

Ref find_put(Desk& desk, const Transaction& transaction, const Root& root, std::span<const TemplateView> any_of) {
  Ref found = 0;
  for_each_of(desk, transaction.puts, [&](Ref ref, const Stored& stored) {
    if (!found && is_of(root, stored) && match_any(any_of, fields_of(desk, stored).view())) found = ref;
  });
  return found;
}

uint64_t count_puts(Desk& desk, const Transaction& transaction, const Root& root, std::span<const TemplateView> any_of) {
  uint64_t number = 0;
  for_each_of(desk, transaction.puts, [&](Ref, const Stored& stored) {
    number += is_of(root, stored) && match_any(any_of, fields_of(desk, stored).view());
  });
  return number;
}

void remove_put(Desk& desk, Transaction& transaction, Ref put) {
  Ref before = 0;
  for_each_of(desk, transaction.puts, [&](Ref ref, const Stored& stored) {
    if (stored.newer == put) before = ref;
  });
  desk.set(before ? &stored_at(desk, before).newer : &transaction.puts, stored_at(desk, put).newer);
  if (transaction.last_put == put) desk.set(&transaction.last_put, before);
  pick_up(desk, kFirstHand, put);
  pick_up_lease(desk, stored_at(desk, put));
  desk.commit();
  give(desk, kFirstHand);
  give(desk, kThirdHand);
}

namespace {

Stripe& stripe_of_records(Desk& desk) {
  Range log = log_range(desk);
  return log.root->stripes[log.stripe];
}

// The records' stripe is locked with the others.
void add_log(Desk& desk, Places& places) {
  places.ranges.push_back(log_range(desk));
  places.stripes.push_back(&stripe_of_records(desk));
}

// Of all that the log has, no two have one: also when they are of several stripes, and the processor's clock began anew meanwhile.
uint64_t next_logged_age(Desk& desk, Stripe& stripe) {
  uint64_t& last = desk.header().log_age;
  return last = stripe.last_age = std::max(next_age(stripe), last + 1);
}

// What the record says of the transaction's changes, and of tuples that it is about to take. With all stripes locked. The puts
// get their ages by that. puts: whether anything comes into a durable space.
std::string record_of(Desk& desk, const Transaction& transaction, std::span<const Found> found, bool* puts) {
  Record record;
  auto take = [&](const Stored& stored) {
    if (stored.pins & kLogged) record.take(root_for(desk, stored).id, stored.age);
  };
  for_each_of(desk, transaction.taken, [&](Ref, const Stored& stored) { take(stored); });
  for (const Found& one : found) take(stored_at(desk, one.tuple));
  for_each_of(desk, transaction.puts, [&](Ref, Stored& stored) {
    Root& root = root_for(desk, stored);
    if (root.keeps == Keeps::kNothing) return;
    PutNote note = note_of(stored);
    if (note.is_new) note.age = next_logged_age(desk, stripe_for(desk, stored));
    set_note(stored, note);
    stored.pins |= kLogged;
    *puts |= root.keeps == Keeps::kAll;
    record.put(root.id, note.age, stored.pins & kMortal ? due_of(desk, stored) : 0, encoding_of(desk, stored));
  });
  return record.take_bytes();
}

// The record is put, too: after everything else that can fail, so that a transaction never has two.
std::optional<Error> add_record(Desk& desk, Transaction& transaction, std::string_view bytes, bool puts) {
  if (auto no = log_refuses(desk, puts)) return no;
  Range log = log_range(desk);
  uint64_t number = desk.header().log_last + 1;
  if (!write_record(desk, log, bytes)) return segment_full();
  Fields fields = fields_of(desk, stored_at(desk, desk.bench->in_hand[kFirstHand]));
  if (!blaming(*log.root, [&] { return shape_for(desk, log.root->stripes[log.stripe], fields.view()); })) return give(desk, kFirstHand), segment_full();
  add_put(desk, transaction, log.root->generation, number);
  set_note(stored_at(desk, transaction.last_put), {number, 1});
  desk.unwritten = std::max(desk.unwritten, number);
  return std::nullopt;
}

std::optional<Error> record_changes(Desk& desk, Transaction& transaction, std::span<const Found> found) {
  bool puts = false;
  std::string bytes = record_of(desk, transaction, found, &puts);
  return bytes.empty() ? std::nullopt : add_record(desk, transaction, bytes, puts);
}

}  // namespace

std::optional<Error> commit(Desk& desk, Transaction& transaction) {
  bool records = transaction.is_durable;
  if (records && !has_log(desk)) return log_refuses(desk, false);
  if (transaction.puts || records) {
    Places places = places_of(desk, transaction.puts);
    if (records) add_log(desk, places);
    LockedRanges locked(desk, places.ranges);
    if (auto no = prepare(desk, transaction)) return no;
    OneMoment moment(desk, std::move(places.stripes));
    if (records)
      if (auto no = record_changes(desk, transaction, {})) return no;
    decide(desk, transaction);
    publish_puts(desk, transaction);
  } else {
    decide(desk, transaction);
  }
  if (!transaction.puts) finish(desk, transaction);  // else conclude does
  return std::nullopt;
}

Result<bool> commit_if(Desk& desk, Transaction& transaction, std::span<const Range> ranges, const Take& take) {
  {
    bool records = transaction.is_durable || std::any_of(ranges.begin(), ranges.end(), [](const Range& one) { return one.root->keeps == Keeps::kAll; });
    if (records && !has_log(desk)) return *log_refuses(desk, false);
    Places places = places_of(desk, transaction.puts);
    for (const Range& range : ranges)
      std::erase_if(places.ranges, [&](const Range& one) {
        return one.root == range.root && (range.stripe == kStripes || one.stripe == range.stripe);
      });
    places.ranges.insert(places.ranges.end(), ranges.begin(), ranges.end());
    if (records) add_log(desk, places);
    LockedRanges locked(desk, places.ranges);
    auto found = take();
    if (!found) return false;
    uint64_t freed = 0;
    places.stripes = places_of(desk, transaction.puts).stripes;
    for (const Found& one : *found) {
      freed += memory_of(desk, one.tuple);
      places.stripes.push_back(one.stripe);
    }
    if (auto no = prepare(desk, transaction, ranges[0].root, freed)) return *no;
    if (records) places.stripes.push_back(&stripe_of_records(desk));
    OneMoment moment(desk, std::move(places.stripes));
    if (records)
      if (auto no = record_changes(desk, transaction, *found)) return *no;
    for (const Found& one : *found) {
      unlink(desk, *one.stripe, one.tuple);
      keep(desk, transaction, one.tuple, [] {});
    }
    decide(desk, transaction);
    publish_puts(desk, transaction);
  }
  if (!transaction.puts) finish(desk, transaction);
  return true;
}

std::optional<Error> commit_record(Desk& desk, Transaction& transaction, std::string_view bytes) {
  if (!has_log(desk)) return log_refuses(desk, false);
  {
    Places places;
    add_log(desk, places);
    LockedRanges locked(desk, places.ranges);
    OneMoment moment(desk, std::move(places.stripes));
    if (auto no = add_record(desk, transaction, bytes, false)) return no;
    decide(desk, transaction);
    publish_puts(desk, transaction);
  }
  if (!transaction.puts) finish(desk, transaction);
  return std::nullopt;
}

bool roll_back(Desk& desk, Transaction& transaction) {
  desk.set(&transaction.progress, Progress::kRollingBack);
  desk.commit();
  discard_puts(desk, transaction);
  if (transaction.taken) {
    Places places = places_of(desk, transaction.taken);
    LockedRanges locked(desk, places.ranges);
    OneMoment moment(desk, std::move(places.stripes));
    if (!put_back_taken(desk, transaction)) return false;
  }
  begin_anew(desk, transaction);
  return true;
}

namespace {

// Where the lists themselves are damaged, what they lead to is lost.
template <class F>
bool as_far_as_whole(Desk& desk, Transaction& transaction, F f) {
  try {
    return f();
  } catch (const Damaged&) {
    empty_hands(desk);
    transaction.taken = transaction.puts = transaction.last_put = 0;
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

void publish_what_is_left(Desk& desk, Transaction& transaction) {
  if (!transaction.puts) return;
  Places places = places_of(desk, transaction.puts);
  LockedRanges locked(desk, places.ranges);
  publish_puts(desk, transaction);
}

}  // namespace

bool conclude(Desk& desk, Transaction& transaction) noexcept {
  return as_far_as_whole(desk, transaction, [&] {
    if (transaction.progress != Progress::kDecided) return roll_back(desk, transaction);
    publish_what_is_left(desk, transaction);
    if (transaction.puts) return false;
    finish(desk, transaction);
    return true;
  });
}

bool end_transaction(Desk& desk, Bench& bench, Transaction& transaction) {
  if (!conclude(desk, transaction)) return false;
  Ref* link = &bench.transactions;
  Steps steps(desk, ~0ull);
  for (; &desk.at<Transaction>(*link) != &transaction; steps.take()) link = &desk.at<Transaction>(*link).next;
  pick_up(desk, kSecondHand, *link);
  desk.set(link, transaction.next);
  desk.commit();
  give(desk, kSecondHand);
  return true;
}

bool end_transactions(Desk& desk, Bench& bench) {
  Steps steps(desk, ~0ull);
  for (; bench.transactions; steps.take())
    if (!end_transaction(desk, bench, desk.at<Transaction>(bench.transactions))) return false;
  return true;
}

}  // namespace godwit::store
