// in and rd, waiting and not, and requests.
#include <x86intrin.h>

#include "tuplespace/shared/spin.hh"
#include "tuplespace/store/index.hh"
#include "tuplespace/store/look.hh"
#include "tuplespace/store/store_work.hh"

namespace godwit::store {
namespace {

constexpr uint32_t kCopied = 4096;  // bytes of a tuple that a rd copies under the lock; larger ones are pinned

Error timed_out() { return make_error(std::errc::timed_out, "no such tuple came in time; inp and rdp look without waiting"); }

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

uint64_t due_or_never(const Desk& desk, const Stored& stored) { return stored.pins & kMortal ? due_of(desk, stored) : 0; }

// What the waiter has got.
Result<bool> show(Desk& desk, Waiter& waiter, const Store::Receive& receive, const Keeping& keeping = {}) {
  Showing showing(desk, waiter);
  if (!receive(fields_of(desk, stored_at(desk, waiter.held ? waiter.held : waiter.pinned)).view())) return false;
  if (!waiter.held) return true;
  const Stored& stored = stored_at(desk, waiter.held);
  if (keeping.lifetime) *keeping.lifetime = {stored.age, due_or_never(desk, stored)};
  if (keeping.transaction) keep(desk, *keeping.transaction, waiter.held, [&] { desk.set(&waiter.held, Ref{0}); });
  else if (!keeping.delivery) deliver(desk, waiter);
  else if (*keeping.delivery = deliver_for(desk, waiter, keeping.time); !*keeping.delivery) return segment_full();
  return true;
}

// Whether what is taken so is gone at once.
bool is_for_good(Verb verb, const Keeping& keeping) { return verb == Verb::kIn && !keeping.transaction && !keeping.delivery; }

// What the transaction itself has put.
bool show_put(Desk& desk, const Keeping& keeping, Ref put, Verb verb, const Store::Receive& receive) {
  const Stored& stored = stored_at(desk, put);
  if (!receive(fields_of(desk, stored).view())) return false;
  if (keeping.lifetime) *keeping.lifetime = {0, due_or_never(desk, stored)};
  if (verb == Verb::kIn) remove_put(desk, *keeping.transaction, put);
  return true;
}

}  // namespace

Result<bool> Store::in(std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive) {
  return get(Verb::kIn, any_of, wait, receive);
}
Result<bool> Store::rd(std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive) {
  return get(Verb::kRd, any_of, wait, receive);
}
Result<bool> Store::in_within(Transaction& transaction, std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive) {
  return get(Verb::kIn, any_of, wait, receive, {&transaction});
}
Result<bool> Store::inp_within(Transaction& transaction, std::span<const TemplateView> any_of, const Receive& receive, Lifetime* lifetime) {
  return get(Verb::kIn, any_of, nullptr, receive, {&transaction, {}, nullptr, lifetime});
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

Result<bool> Store::get(Verb verb, std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive,
                        const Keeping& keeping) {
  if (auto no = refuse(any_of)) return *no;
  return work<bool>([&](Desk& desk) -> Result<bool> {
    if (!is_durable()) return get_once(desk, verb, any_of, wait, receive, keeping);
    if (!is_for_good(verb, keeping)) return shown(desk, get_once(desk, verb, any_of, wait, receive, keeping));
    return durably<bool>(desk, [&](Transaction& own) { return get_once(desk, verb, any_of, wait, receive, {&own}); });
  });
}

Result<bool> Store::get_once(Desk& desk, Verb verb, std::span<const TemplateView> any_of, const Wait* wait, const Receive& receive,
                             const Keeping& keeping) {
  if (!is_settled(desk)) return segment_full();
  NewWait wanted{verb, stripe_of(*root_, any_of), any_of, 0};
  std::string copied;
  for (std::optional<Error> why;;) {
    Transaction* transaction = keeping.transaction;
    bool own = transaction && transaction->puts;  // which nobody else can take: they are looked at before a wait
    auto seen = look(desk, desk.bench->waiter, wanted, wait && !why && !own, &copied);
    if (seen && *seen == Seen::kNone && own) {
      if (Ref put = find_put(desk, *transaction, *root_, any_of)) return show_put(desk, keeping, put, verb, receive);
      seen = look(desk, desk.bench->waiter, wanted, wait && !why, &copied);
    }
    if (!seen) return seen.error();
    if (*seen == Seen::kGot) return store::show(desk, desk.bench->waiter, receive, keeping);
    if (*seen == Seen::kCopied) return receive(fields_of(copied).view());
    if (!wait) return false;
    if (why) return *why;
    await_answer(*desk.bench, *wait);
    why = over(*wait, timed_out);
    end_wait(desk, desk.bench->waiter);
  }
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
  ++found.stripe->read;
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

Result<std::optional<bool>> Store::receive(uint32_t number, const Receive& receive, const Keeping& keeping) {
  using Received = std::optional<bool>;
  return work<Received>([&](Desk& desk) -> Result<Received> {
    Verb verb = request_at(desk, number).verb;
    if (!is_durable()) return receive_once(desk, number, receive, keeping);
    if (!is_for_good(verb, keeping)) return shown(desk, receive_once(desk, number, receive, keeping));
    return durably<Received>(desk, [&](Transaction& own) {
      Keeping kept = keeping;
      kept.transaction = &own;
      return receive_once(desk, number, receive, kept);
    });
  });
}

Result<std::optional<bool>> Store::receive_once(Desk& desk, uint32_t number, const Receive& receive, const Keeping& keeping) {
  Waiter& request = request_at(desk, number);
  bool waits = request.state.load(std::memory_order_acquire) & kWaits;
  bool answered = request.held || request.pinned;
  auto no = closed();
  if (waits && !answered && !no) return std::optional<bool>();
  end_wait(desk, request);
  answered = request.held || request.pinned;
  Result<bool> received = answered ? store::show(desk, request, receive, keeping) : false;
  if (settle(desk, request)) free_request(desk, *desk.bench, request);
  if (!answered && no) return *no;
  if (!received) return received.error();
  return std::optional(*received);
}

void Store::withdraw(uint32_t number) {
  (void)work<void>([&](Desk& desk) -> Result<void> {
    Waiter& request = request_at(desk, number);
    end_wait(desk, request);
    if (settle(desk, request)) free_request(desk, *desk.bench, request);
    return {};
  });
}

}  // namespace godwit::store
