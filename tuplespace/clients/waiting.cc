// Requests that wait: for a tuple, as requests of the store, each with its place in line; for room; for what a watch sees.
#include <algorithm>

#include "tuplespace/clients/server.hh"
#include "tuplespace/objects.hh"
#include "tuplespace/store/errors.hh"
#include "tuplespace/streams/spaces.hh"

namespace godwit::clients {
namespace {

constexpr size_t kSeen = 1000;           // tuples of a watch in one answer
constexpr size_t kSeenBytes = 1 << 20;
constexpr auto kRoomPause = Milliseconds(5);

bool survives(Op op) { return op == Op::kIn || op == Op::kOut; }

}  // namespace

std::optional<Error> Server::has_no_waiter_left(const Session& session) const {
  if (session.usage->waiters < session.client->limits.waiters) return std::nullopt;
  return Error{std::error_code(EDQUOT, std::generic_category()),
               "the key has " + std::to_string(session.client->limits.waiters) + " waiting requests, watches, leases and transactions, the most; end some"};
}

void Server::wait(Session& session, uint64_t number, std::unique_ptr<Waiting> waiting, std::optional<Milliseconds> time) {
  if (time) waiting->timer = timers_.emplace(Clock::now() + *time, std::pair(&session, number));
  if (waiting->request) waits_[waiting->request] = {&session, number};
  Slot& slot = session.slots[number];
  slot.open = session.to_begin_again.erase(number) != 0;
  if (!slot.open && survives(waiting->op) && !waiting->transaction) session.to_open.push_back(number);
  slot.waiting = std::move(waiting);
  ++session.usage->waiters;
}

// It takes nothing any more. What had come goes back.
void Server::stop_waiting(Session& session, uint64_t number) {
  auto waiting = std::move(session.slots[number].waiting);
  if (waiting->timer) timers_.erase(*waiting->timer);
  if (waiting->request && waits_.erase(waiting->request)) waiting->store->withdraw(waiting->request);
  if (waiting->op == Op::kOut) std::erase(rooms_, std::pair(&session, number));
  if (waiting->op == Op::kNext) nexts_.erase({&session, number});
  if (waiting->space == kNetSpace) nets_.erase({&session, number});
  session.usage->memory -= waiting->memory;
  std::erase(session.to_open, number);
  --session.usage->waiters;
}

// ---- for a tuple

void Server::look_at(uint32_t request) {
  if (auto found = waits_.find(request); found != waits_.end()) {
    auto [session, number] = found->second;
    look_at(*session, number);
    unsent_.insert(session);
  }
}

void Server::look_at_all() {
  std::vector<uint32_t> all;
  for (const auto& [request, waits] : waits_) all.push_back(request);
  for (uint32_t request : all) look_at(request);
}

void Server::look_at(Session& session, uint64_t number) {
  Waiting& waiting = *session.slots[number].waiting;
  Outcome outcome{number, {}, survives(waiting.op)};
  auto answer = answer_of(session, waiting, outcome);
  if (answer && !*answer) return;  // not yet
  waits_.erase(waiting.request);   // its request is over
  if (!answer) ledger_.roll_back();
  outcome.answer = answer ? std::move(**answer) : failed(answer.error());
  settle(session, session.begun, std::move(outcome));
}

// What has come to a request of the store. nullopt: nothing has.
Server::Step Server::answer_of(Session& session, Waiting& waiting, Outcome& outcome) {
  store::Lifetime lifetime;
  std::optional<store::Delivery> delivery;
  auto own = session.transactions.find(waiting.transaction);
  store::Keeping keeping{waiting.transaction ? own->second : &ledger_.transaction(), waiting.lease, nullptr, &lifetime};
  if (waiting.op == Op::kLease) keeping.transaction = nullptr, keeping.delivery = &delivery;
  Tuple tuple;
  auto received = waiting.store->receive(waiting.request, [&](TupleView fields) {
    bool fits = has_memory_for(session, store::encoded_size(fields));
    if (fits) tuple = to_tuple(fields);
    return fits;
  }, keeping);
  if (!received) return received.error();
  if (!*received) return std::optional<Body>();
  if (!**received) return no_memory_left();
  if (waiting.op == Op::kLease) return std::optional(leased(session, *waiting.store, *delivery, waiting.lease, tuple));
  if (waiting.op == Op::kIn && !waiting.transaction) {
    outcome.taken = true;
    if (auto put = ledger_.put_taken(session.id, outcome.number, waiting.space, lifetime, tuple); !put) return put.error();
  }
  return std::optional(done(encode(tuple)));
}

// ---- for room

// An out that found none. False: it is refused for that.
bool Server::wait_for_room(Session& session, Request& request, uint64_t number, const Error& no) {
  if (request.op != Op::kOut || no.code != std::errc::no_space_on_device) return false;
  auto store = open(request.space);
  if (!store || !store->waits_for_room()) return false;
  if (request.wait == Milliseconds(0)) return settle(session, std::max(session.begun, number), {number, done(false)}), true;
  if (has_no_waiter_left(session)) return false;
  auto waiting = std::make_unique<Waiting>(Waiting{Op::kOut, std::string(request.space), *store});
  for (TupleView tuple : request.tuples) waiting->tuples.push_back(to_tuple(tuple));
  waiting->due = request.time ? store::due_after(*request.time) : 0;
  for (const Tuple& tuple : waiting->tuples) waiting->memory += store::encoded_size(views_of(tuple));
  session.usage->memory += waiting->memory;
  wait(session, number, std::move(waiting), request.wait);
  rooms_.emplace_back(&session, number);
  if (auto done = commit(session, std::max(session.begun, number), {}); !done) {
    stop_waiting(session, number);
    return false;
  }
  return true;
}

// False: there is no room yet.
bool Server::put_waiting(Session& session, uint64_t number) {
  Waiting& waiting = *session.slots[number].waiting;
  Result<void> put;
  for (const Tuple& tuple : waiting.tuples)
    if (put) put = waiting.store->out_within(ledger_.transaction(), views_of(tuple), {0, waiting.due});
  Outcome outcome{number, done(true)};
  if (put) put = commit(session, session.begun, {&outcome, 1});
  if (!put) ledger_.roll_back();
  if (!put && put.error().code == std::errc::no_space_on_device) return false;
  if (!put) settle(session, session.begun, {number, failed(put.error())});
  unsent_.insert(&session);
  return true;
}

// Those of a space in order.
void Server::look_at_rooms() {
  auto now = Clock::now();
  if (rooms_.empty() || now - looked_for_room_ < kRoomPause) return;
  looked_for_room_ = now;
  std::set<std::string> full;
  for (auto it = rooms_.begin(); it != rooms_.end();) {
    auto [session, number] = *it++;
    const std::string& space = session->slots[number].waiting->space;
    if (!full.contains(space) && !put_waiting(*session, number)) full.insert(space);
  }
}

// ---- for what a watch sees

void Server::look_at_watches() {
  for (auto it = nexts_.begin(); it != nexts_.end();) {
    auto [session, number] = *it++;
    auto& watch = session->watches.at(session->slots[number].waiting->watch);
    if (watch.store.has_come(watch.watching) && look_at_watch(*session, number)) unsent_.insert(session);
  }
}

// Answers a next with what has come. False: nothing has.
bool Server::look_at_watch(Session& session, uint64_t number) {
  auto& watch = session.watches.at(session.slots[number].waiting->watch);
  auto answer = seen(watch);
  if (answer && !*answer) return false;
  settle(session, session.begun, {number, answer ? std::move(**answer) : failed(answer.error()), false});
  return true;
}

Server::Step Server::seen(Session::Watch& watch) {
  Packer tuples;
  size_t count = 0;
  while (count < kSeen && tuples.bytes().size() < kSeenBytes) {
    auto shown = watch.store.next(watch.watching, nullptr, [&](TupleView fields) { add(tuples, fields); });
    if (!shown) return shown.error();
    if (!*shown) break;
    ++count;
  }
  if (count == 0) return std::optional<Body>();
  Packer packer;
  packer.array(2).add(watch.watching.missed).array(count).add(Raw{tuples.bytes()});
  return std::optional(done(packer.take()));
}

// ---- in vain

void Server::run_timers() {
  for (auto now = Clock::now(); !timers_.empty() && timers_.begin()->first <= now;) {
    auto [session, number] = timers_.begin()->second;
    if (session->slots[number].waiting->request) look_at(*session, number);  // it may just have come
    Slot& slot = session->slots[number];
    if (slot.waiting) {
      Op op = slot.waiting->op;
      stop_waiting(*session, number);
      settle(*session, session->begun, {number, op == Op::kOut ? done(false) : done(nullptr), survives(op)});
    }
    unsent_.insert(session);
  }
}

}  // namespace godwit::clients
