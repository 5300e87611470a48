// What each request does.
#include <algorithm>

#include "tuplespace/clients/server.hh"
#include "tuplespace/fault.hh"
#include "tuplespace/objects.hh"
#include "tuplespace/store/errors.hh"
#include "tuplespace/streams/spaces.hh"

namespace godwit::clients {
namespace {

Error errno_with(int code, std::string text) { return Error{std::error_code(code, std::generic_category()), std::move(text)}; }
Error unknown(const char* what) { return make_error(std::errc::no_such_file_or_directory, std::string("the session has no such ") + what + "; it ended, or the node was restarted"); }
Error canceled() { return make_error(std::errc::operation_canceled, "the request was cancelled"); }
Error doubtful() { return errno_with(EOWNERDEAD, "the node was killed while it did that; see whether it was done"); }

bool is_reserved(std::string_view space) { return space == kNetSpace || is_own_space(space); }

}  // namespace

Error no_memory_left() { return errno_with(ENOBUFS, "the key's memory is used up; take the answers, and confirm them"); }

Result<store::Store> Server::open(std::string_view name) {
  auto known = spaces_.find(name);
  if (known != spaces_.end() && known->second.is_open()) return known->second;
  if (known != spaces_.end()) spaces_.erase(known);
  auto store = store::Store::open(segment_, name);
  if (store) spaces_.emplace(name, *store);
  return store;
}

std::optional<Error> Server::refused(const Session& session, std::string_view space, Rights rights) {
  Rights lacking = rights & ~(is_own_space(space) ? 0 : session.client->rights_on(space));
  if (!lacking) return std::nullopt;
  std::string facts = std::string(space) + " " + to_text(lacking);
  audit_.note(session.client->name, "denied", facts);
  return make_error(std::errc::permission_denied, "the key has no right to that: " + facts + "; ask for it where godwit keygen made the key");
}

bool Server::has_memory_for(const Session& session, uint64_t bytes) const {
  return session.usage->memory + pending_ + bytes <= session.client->limits.memory;
}

// ---- those that go into one transaction with others

Server::Step Server::operate(Session& session, store::Transaction& transaction, Request& request, Outcome& outcome, uint64_t within) {
  if (!has_memory_for(session, 0)) return std::optional(failed(no_memory_left()));
  bool puts = request.op == Op::kOut, takes = request.op == Op::kIn;
  outcome.kept = puts || takes;
  if (auto no = refused(session, request.space, puts ? kPut : takes ? kTake : kRead)) return std::optional(failed(*no));
  auto store = open(request.space);
  if (!store) return std::optional(failed(store.error()));
  if (puts) return put(*store, transaction, request);
  if (takes) return take(session, *store, transaction, request, outcome, within);
  if (request.op == Op::kRd) return look(session, *store, transaction, request, outcome, within);
  auto number = store->count_within(transaction, TemplateViews(request.wanted));
  if (!number) return number.error();
  return std::optional(done(pack(*number)));
}

Server::Step Server::put(store::Store& store, store::Transaction& transaction, Request& request) {
  store::Lifetime lifetime{0, request.time ? store::due_after(*request.time) : 0};
  for (TupleView tuple : request.tuples)
    if (auto put = store.out_within(transaction, tuple, lifetime); !put) return put.error();
  return std::optional(done(true));
}

Server::Step Server::take(Session& session, store::Store& store, store::Transaction& transaction, Request& request, Outcome& outcome,
                          uint64_t within) {
  Tuple tuple;
  bool fits = true;
  store::Lifetime lifetime;
  auto got = store.inp_within(transaction, TemplateViews(request.wanted), [&](TupleView fields) {
    fits = has_memory_for(session, store::encoded_size(fields));
    if (fits) tuple = to_tuple(fields);
    return fits;
  }, &lifetime);
  if (!got) return got.error();
  if (!fits) return std::optional(failed(no_memory_left()));
  if (!*got) return begin_request(session, store, request, outcome.number, within);
  if (!within) {
    outcome.taken = true;
    if (auto put = ledger_.put_taken(session.id, outcome.number, request.space, lifetime, tuple); !put) return put.error();
  }
  return std::optional(done(encode(tuple)));
}

Server::Step Server::look(Session& session, store::Store& store, store::Transaction& transaction, Request& request, const Outcome& outcome,
                          uint64_t within) {
  Packer tuple;
  bool fits = true;
  auto got = store.rd_within(transaction, TemplateViews(request.wanted), nullptr, [&](TupleView fields) {
    fits = has_memory_for(session, store::encoded_size(fields));
    if (fits) add(tuple, fields);
    return true;
  });
  if (!got) return got.error();
  if (!fits) return std::optional(failed(no_memory_left()));
  if (!*got) return begin_request(session, store, request, outcome.number, within);
  return std::optional(done(tuple.take()));
}

// None is there now.
Server::Step Server::begin_request(Session& session, const store::Store& store, Request& request, uint64_t number, uint64_t within) {
  if (request.wait == Milliseconds(0)) return std::optional(done(nullptr));
  if (auto no = has_no_waiter_left(session)) return std::optional(failed(*no));
  auto waiting = std::make_unique<Waiting>(Waiting{request.op, std::string(request.space), store});
  waiting->transaction = within;
  if (request.op == Op::kLease) waiting->lease = *request.time;
  auto begun = waiting->store->request(request.op == Op::kRd ? store::Verb::kRd : store::Verb::kIn, TemplateViews(request.wanted), 0);
  if (!begun) return std::optional(failed(begun.error()));
  waiting->request = *begun;
  wait(session, number, std::move(waiting), request.wait);
  return std::optional<Body>();
}

// ---- those that are alone

Server::Step Server::operate_alone(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  if (!has_memory_for(session, 0) && request.op != Op::kGot && request.op != Op::kEnd) return no_memory_left();
  if (is_of_net(request)) return of_net(session, request, outcomes);
  switch (request.op) {
    case Op::kGot: return got(session, request, outcomes);
    case Op::kUnique: case Op::kSwap: return put_if(session, request, outcomes);
    case Op::kLease: return lease(session, request, outcomes);
    case Op::kAcknowledge: case Op::kRelease: case Op::kExtend: return with_lease(session, request, outcomes);
    case Op::kAll: return all(session, request, outcomes);
    case Op::kCollect: case Op::kCopyCollect: return collect(session, request, outcomes);
    case Op::kWatch: return watch(session, request, outcomes);
    case Op::kNext: return next(session, request, outcomes);
    case Op::kUnwatch: return unwatch(session, request, outcomes);
    case Op::kCancel: return cancel(session, request, outcomes);
    case Op::kBegin: return begin(session, request, outcomes);
    case Op::kWithin: return within(session, request, outcomes);
    case Op::kCommit: return commit_own(session, request, outcomes);
    case Op::kRollBack: case Op::kClose: return roll_back(session, request, outcomes);
    case Op::kCreate: case Op::kDrop: return create_or_drop(session, request, outcomes);
    case Op::kSpaces: return spaces(session, request, outcomes);
    default: return outcomes[0].kept = false, std::optional(done(nullptr));  // end
  }
}

Server::Step Server::got(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  std::vector<Run> runs;
  for (uint64_t number : request.numbers)
    if (session.slots.find(number)) runs.push_back({number, number});
  if (auto done = forget(session, runs); !done) return done.error();
  outcomes[0].kept = false;
  return std::optional(done(nullptr));
}

// The record says that it was put: so it is there if it was.
Server::Step Server::put_if(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  bool instead = request.op == Op::kSwap;
  if (auto no = refused(session, request.space, instead ? kTake | kPut : kPut)) return *no;
  auto store = open(request.space);
  if (!store) return store.error();
  uint64_t number = outcomes[0].number, begun = std::max(session.begun, number);
  store::Transaction& transaction = ledger_.transaction();
  outcomes[0].answer = done(true);
  if (auto put = store->out_within(transaction, request.tuples[0]); !put) return put.error();
  if (auto put = put_record(transaction, session, begun, outcomes); !put) return put.error();
  GODWIT_FAULT_POINT("clients.before_commit");
  using Condition = store::Store::Condition;
  auto happened = store->commit_if(instead ? Condition::kInstead : Condition::kUnless, TemplateViews(request.wanted), transaction);
  if (!happened) return happened.error();
  if (!*happened) return ledger_.roll_back(), std::optional(done(false));
  GODWIT_FAULT_POINT("clients.after_commit");
  recorded(session, begun, outcomes, true);
  return std::optional<Body>();
}

Server::Step Server::lease(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  outcomes[0].kept = false;
  if (auto no = refused(session, request.space, kTake)) return *no;
  if (auto no = has_no_waiter_left(session)) return *no;
  auto store = open(request.space);
  if (!store) return store.error();
  Tuple tuple;
  bool fits = true;
  auto delivery = store->in_for(*request.time, TemplateViews(request.wanted), nullptr, [&](TupleView fields) {
    fits = has_memory_for(session, store::encoded_size(fields));
    if (fits) tuple = to_tuple(fields);
    return fits;
  });
  if (!delivery) return delivery.error();
  if (!fits) return no_memory_left();
  if (!*delivery) return begin_request(session, *store, request, outcomes[0].number, 0);
  return std::optional(leased(session, *store, **delivery, *request.time, tuple));
}

Body Server::leased(Session& session, const store::Store& store, const store::Delivery& delivery, Milliseconds time, const Tuple& tuple) {
  auto now = Clock::now();
  session.usage->waiters -= std::erase_if(session.leases, [&](const auto& one) { return one.second.until < now; });
  if (session.leases.emplace(delivery.number, Session::Leased{store, delivery, now + time}).second) ++session.usage->waiters;
  Packer packer;
  packer.array(2);
  add(packer, views_of(tuple));
  return done(packer.add(delivery.number).take());
}

Server::Step Server::with_lease(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  bool acknowledges = request.op == Op::kAcknowledge, extends = request.op == Op::kExtend;
  outcomes[0].kept = acknowledges;
  auto lease = session.leases.find(request.number());
  if (lease == session.leases.end()) return std::optional(done(false));
  auto& [store, delivery, until] = lease->second;
  auto fine = acknowledges ? store.acknowledge(delivery, &ledger_.transaction())
              : extends    ? store.extend(delivery, *request.time)
                           : store.release(delivery, *request.time);
  if (!fine) return fine.error();
  if (extends) {
    until = Clock::now() + *request.time;
  } else {
    session.leases.erase(lease);
    --session.usage->waiters;
  }
  return std::optional(done(*fine));
}

Server::Step Server::all(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  outcomes[0].kept = false;
  if (auto no = refused(session, request.space, kRead)) return *no;
  auto store = open(request.space);
  if (!store) return store.error();
  auto tuples = store->all(TemplateViews(request.wanted));
  if (!tuples) return tuples.error();
  Packer packer;
  packer.array(tuples->size());
  for (const Tuple& tuple : *tuples) add(packer, views_of(tuple));
  if (!has_memory_for(session, packer.bytes().size())) return no_memory_left();
  return std::optional(done(packer.take()));
}

// A node that is killed here finds that it has begun, and not whether it has done it.
Result<void> Server::note_doubt(Session& session, uint64_t number) {
  Outcome doubt{number, failed(doubtful())};
  auto before = std::max(session.begun, number);
  if (auto put = put_record(ledger_.transaction(), session, before, {&doubt, 1}); !put) return ledger_.roll_back(), put;
  if (auto done = ledger_.commit(); !done) return done;
  session.begun = before;
  session.records[++session.serial] = 0;
  GODWIT_FAULT_POINT("clients.before_doubtful");
  return {};
}

Server::Step Server::collect(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  bool copies = request.op == Op::kCopyCollect;
  if (auto no = refused(session, request.space, copies ? kRead : kTake)) return *no;
  if (auto no = refused(session, request.to, kPut)) return *no;
  auto from = open(request.space), to = open(request.to);
  if (!from || !to) return from ? to.error() : from.error();
  if (auto noted = note_doubt(session, outcomes[0].number); !noted) return noted.error();
  TemplateViews wanted(request.wanted);
  auto number = copies ? from->copy_collect(*to, wanted) : from->collect(*to, wanted);
  GODWIT_FAULT_POINT("clients.after_doubtful");
  if (!number) return number.error();
  return std::optional(done(pack(*number)));
}

Server::Step Server::watch(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  outcomes[0].kept = false;
  if (auto no = refused(session, request.space, kRead)) return *no;
  if (auto no = has_no_waiter_left(session)) return *no;
  auto store = open(request.space);
  if (!store) return store.error();
  auto watching = store->watch(TemplateViews(request.wanted));
  if (!watching) return watching.error();
  session.watches.emplace(++last_id_, Session::Watch{*store, *watching});
  ++session.usage->waiters;
  return std::optional(done(pack(last_id_)));
}

Server::Step Server::next(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  outcomes[0].kept = false;
  auto watch = session.watches.find(request.number());
  if (watch == session.watches.end()) return unknown("watch");
  auto answer = seen(watch->second);
  if (!answer || *answer) return answer;
  if (request.wait == Milliseconds(0)) return std::optional(done(nullptr));
  if (auto no = has_no_waiter_left(session)) return *no;
  auto waiting = std::make_unique<Waiting>(Waiting{Op::kNext});
  waiting->watch = request.number();
  wait(session, outcomes[0].number, std::move(waiting), request.wait);
  nexts_.emplace(&session, outcomes[0].number);
  return std::optional<Body>();
}

Server::Step Server::unwatch(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  outcomes[0].kept = false;
  auto watch = session.watches.find(request.number());
  if (watch == session.watches.end()) return std::optional(done(nullptr));
  for (auto& [number, slot] : session.slots)
    if (slot.waiting && slot.waiting->watch == request.number()) outcomes.push_back({number, failed(canceled()), false});
  for (size_t i = 1; i < outcomes.size(); ++i) stop_waiting(session, outcomes[i].number);
  watch->second.store.end_watch(watch->second.watching);
  session.watches.erase(watch);
  --session.usage->waiters;
  return std::optional(done(nullptr));
}

Server::Step Server::cancel(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  Slot* slot = session.slots.find(request.number());
  if (!slot || (!slot->waiting && !slot->taken)) return std::optional(done(false));
  if (slot->waiting && slot->waiting->request) look_at(session, request.number());  // it may just have come
  if (slot->taken) {
    if (auto back = put_back(session.id, request.number()); !back) return back.error();
  } else if (slot->waiting) {
    stop_waiting(session, request.number());
  } else {
    return std::optional(done(false));
  }
  outcomes.push_back({request.number(), failed(canceled())});
  return std::optional(done(true));
}

Server::Step Server::begin(Session& session, Request&, std::vector<Outcome>& outcomes) {
  outcomes[0].kept = false;
  if (auto no = has_no_waiter_left(session)) return *no;
  auto desk = store::Desk::of(segment_);
  if (!desk) return desk.error();
  store::Transaction* transaction = store::begin_transaction(**desk);
  if (!transaction) return store::segment_full();
  session.transactions[++last_id_] = transaction;
  ++session.usage->waiters;
  return std::optional(done(pack(last_id_)));
}

Server::Step Server::within(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  auto transaction = session.transactions.find(request.number());
  if (request.within->space == kNetSpace) return not_of_net();
  auto answer = transaction == session.transactions.end() ? Step(unknown("transaction"))
                                                          : operate(session, *transaction->second, *request.within, outcomes[0], request.number());
  outcomes[0].kept = false;
  return answer;
}

// Its record is part of it.
Server::Step Server::commit_own(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  auto found = session.transactions.find(request.number());
  if (found == session.transactions.end()) return unknown("transaction");
  if (auto opened = commit(session, session.begun, {}); !opened) return opened.error();
  store::Transaction& transaction = *found->second;
  uint64_t begun = std::max(session.begun, outcomes[0].number);
  outcomes[0].answer = done(nullptr);
  if (auto put = put_record(transaction, session, begun, outcomes); !put) return put.error();
  GODWIT_FAULT_POINT("clients.before_commit");
  if (auto happened = store::Store::commit(segment_, transaction); !happened) {
    (void)ledger_.drop_record(transaction, session.id, session.serial + 1);
    return happened.error();
  }
  GODWIT_FAULT_POINT("clients.after_commit");
  recorded(session, begun, outcomes, true);
  return std::optional<Body>();
}

Server::Step Server::roll_back(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  outcomes[0].kept = false;
  auto found = session.transactions.find(request.number());
  if (found == session.transactions.end()) return unknown("transaction");
  for (auto& [number, slot] : session.slots)
    if (slot.waiting && slot.waiting->transaction == request.number()) outcomes.push_back({number, failed(canceled()), false});
  for (size_t i = 1; i < outcomes.size(); ++i) stop_waiting(session, outcomes[i].number);
  auto desk = store::Desk::of(segment_);
  if (!desk) return desk.error();
  bool closes = request.op == Op::kClose;
  bool done_now = closes ? store::end_transaction(**desk, *(*desk)->bench, *found->second) : store::conclude(**desk, *found->second);
  if (!done_now) return store::segment_full();
  if (closes) session.transactions.erase(found), --session.usage->waiters;
  return std::optional(done(nullptr));
}

Server::Step Server::create_or_drop(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  bool creates = request.op == Op::kCreate;
  const char* verb = creates ? "create" : "drop";
  if (!session.client->manages) {
    audit_.note(session.client->name, "denied", std::string(verb) + " " + std::string(request.space));
    return make_error(std::errc::permission_denied, "the key may not create and drop spaces; ask for it where godwit keygen made the key");
  }
  if (is_reserved(request.space)) return make_error(std::errc::invalid_argument, "'" + std::string(request.space) + "' is Godwit's own; choose another name");
  auto desk = store::Desk::of(segment_);
  if (!desk) return desk.error();
  if (auto noted = note_doubt(session, outcomes[0].number); !noted) return noted.error();
  Result<void> fine;
  if (!creates) fine = store::drop_space(**desk, request.space);
  else if (auto made = store::Store::create(segment_, request.space, request.options); !made) fine = made.error();
  GODWIT_FAULT_POINT("clients.after_doubtful");
  if (!fine) return fine.error();
  audit_.note(session.client->name, verb, request.space, true);
  return std::optional(done(nullptr));
}

Server::Step Server::spaces(Session& session, Request&, std::vector<Outcome>& outcomes) {
  outcomes[0].kept = false;
  auto desk = store::Desk::of(segment_);
  if (!desk) return desk.error();
  std::vector<Packed> all;
  for (const SpaceFacts& space : store::list_spaces(**desk)) {
    if (is_reserved(space.name) || !session.client->rights_on(space.name)) continue;
    auto capacity = space.capacity ? pack(space.capacity) : pack(nullptr);
    all.push_back(pack_map("space", space.name, "tuples", space.tuples, "bytes", space.bytes, "waiters", space.waiters, "capacity", Raw{capacity},
                           "blocks", space.blocks_when_full, "durable", space.durable, "damaged", space.damaged));
  }
  Packer packer;
  packer.array(all.size());
  for (const Packed& one : all) packer.add(Raw{one});
  return std::optional(done(packer.take()));
}

}  // namespace godwit::clients
