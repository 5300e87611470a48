// Each request once: which of a message's are begun, how their effects and the record of them become one transaction.
#include <algorithm>

#include "tuplespace/clients/server.hh"
#include "tuplespace/fault.hh"
#include "tuplespace/streams/spaces.hh"

namespace godwit::clients {
namespace {

constexpr size_t kBatch = 256;  // requests in a transaction at most

bool puts(const Request& request) { return request.op == Op::kOut && request.space != kNetSpace; }
bool takes_or_looks(const Request& request) {
  return (request.op == Op::kIn || request.op == Op::kRd || request.op == Op::kCount) && request.space != kNetSpace;
}

// How many of the next requests, at most so many, go into one transaction: some that take or look, then some that put. What is put
// is so for those who wait first, and for the requests behind it then.
size_t length_of_batch(std::span<const Request> requests, size_t most) {
  size_t length = 0;
  most = std::min(most, requests.size());
  while (length < most && takes_or_looks(requests[length])) ++length;
  while (length < most && puts(requests[length])) ++length;
  return length;
}

// What may be done again when nobody knows any more whether it was: it changes nothing that outlives the node.
bool looks_only(Op op) {
  switch (op) {
    case Op::kRd: case Op::kCount: case Op::kAll: case Op::kSpaces: case Op::kWatch: case Op::kNext: case Op::kUnwatch:
    case Op::kLease: case Op::kRelease: case Op::kExtend: case Op::kBegin: case Op::kWithin: case Op::kRollBack: case Op::kClose:
    case Op::kGot: case Op::kEnd:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::vector<std::pair<uint64_t, Body>> read_answers(std::string_view packed) {
  std::vector<std::pair<uint64_t, Body>> all;
  while (!packed.empty()) {
    auto length = first_object(packed);
    if (!length || !*length) break;
    auto object = unpack(packed.substr(0, **length));
    packed.remove_prefix(**length);
    std::array<msgpack::object, 4> parts;
    uint64_t first = 0, last = 0;
    if (!object || !decode(object->get(), parts) || !decode(parts[0], first) || !decode(parts[1], last)) break;
    if (first > last || last - first >= kMostRequests) break;
    for (uint64_t number = first; number <= last; ++number) all.emplace_back(number, pack(parts[2]) + pack(parts[3]));
  }
  return all;
}

void Server::handle(Session& session, Message& message) {
  session.begun = std::max(session.begun, message.floor - 1);  // the client has their answers
  if (message.first > session.begun + 1) return;               // what lies between is lost
  session.usage->tokens -= static_cast<double>(std::max<size_t>(message.requests.size(), 1));
  confirm(session, message.floor);
  std::span<Request> requests = message.requests;
  for (size_t i = 0, alone_until = 0; i < requests.size();) {
    uint64_t number = message.first + i;
    size_t length = length_of_batch(requests.subspan(i), i < alone_until ? 1 : kBatch);
    if (length == 0) {
      bool ends = requests[i].op == Op::kEnd;
      if (is_new(session, number, requests[i])) run_alone(session, requests[i], number);
      if (ends) return send(session, true), end_by_wish(session);
      ++i;
    } else if (run_batch(session, requests.subspan(i, length), number)) {
      i += length;
    } else {
      alone_until = i + length;  // one of them cannot be done; it alone shall fail
    }
  }
  send(session, true);
}

void Server::confirm(Session& session, uint64_t floor) {
  uint64_t before = std::exchange(session.floor, std::max(session.floor, floor));
  Run below{0, floor - 1};
  if (!forget(session, {&below, 1})) session.floor = before;
}

// Those that have answers: they are confirmed. That of a taken tuple is so in the ledger before anybody hears of it: also should
// the node be killed, the tuple is the client's.
Result<void> Server::forget(Session& session, std::span<const Run> runs) {
  bool taken = false;
  for (const Run& run : runs)
    for (auto [it, end] = session.slots.of(run); it != end; ++it) {
      if (!it->second.taken) continue;
      taken = true;
      if (auto dropped = ledger_.drop_taken(session.id, it->first); !dropped) return ledger_.roll_back(), dropped.error();
    }
  if (taken)
    if (auto done = commit(session, session.begun, {}, true); !done) return done;
  for (const Run& run : runs)
    for (auto [it, end] = session.slots.of(run); it != end;) {
      const Slot& slot = it->second;
      if (slot.is_done()) session.usage->memory -= slot.memory();
      if (slot.record) session.records[slot.record] -= 1 + slot.more;
      it = slot.is_done() ? session.slots.erase(it) : std::next(it);
    }
  return {};
}

// Whether the request is to be begun. What has an answer is answered again.
bool Server::is_new(Session& session, uint64_t number, const Request& request) {
  if (number < session.floor) return false;
  if (const Slot* slot = session.slots.find(number)) {
    if (slot->is_done()) session.to_send.push_back({number, number});
    return false;
  }
  if (number > session.begun) return true;
  if (session.to_begin_again.contains(number)) return true;
  return number <= session.recovered && looks_only(request.op);
}

// False: nothing was done, and they are to be tried one by one.
bool Server::run_batch(Session& session, std::span<Request> requests, uint64_t first) {
  std::vector<Outcome> outcomes;
  std::optional<Error> no;
  uint64_t begun = session.begun;
  for (size_t i = 0; i < requests.size() && !no; ++i) {
    Outcome outcome{first + i, {}};
    begun = std::max(begun, outcome.number);
    if (!is_new(session, outcome.number, requests[i])) continue;
    auto step = operate(session, ledger_.transaction(), requests[i], outcome);
    if (!step) {
      no = step.error();
    } else if (*step) {
      outcome.answer = std::move(**step);
      pending_ += outcome.answer.size() + sizeof(Slot);
      if (!outcomes.empty() && outcomes.back().goes_on_with(outcome)) ++outcomes.back().more;
      else outcomes.push_back(std::move(outcome));
    }
  }
  pending_ = 0;
  if (!no)
    if (auto done = commit(session, begun, outcomes); !done) no = done.error();
  if (!no) return true;
  ledger_.roll_back();
  if (requests.size() > 1) return false;
  if (!wait_for_room(session, requests[0], first, *no)) settle(session, begun, {first, failed(*no)});
  return true;
}

void Server::run_alone(Session& session, Request& request, uint64_t number) {
  std::vector<Outcome> outcomes = {{number, {}}};
  auto step = operate_alone(session, request, outcomes);
  if (!step) ledger_.roll_back(), outcomes = {{number, failed(step.error())}};
  else if (*step) outcomes[0].answer = std::move(**step);
  else outcomes.erase(outcomes.begin());  // it waits, or is recorded
  uint64_t begun = std::max(session.begun, number);
  if (outcomes.size() == 1) settle(session, begun, std::move(outcomes[0]));
  else if (auto done = commit(session, begun, outcomes); !done) settle(session, begun, {number, failed(done.error())});
}

// Puts the record of all that the client may have to be told again: [FIRST, LAST, ERROR, RESULT]...
Result<void> Server::put_record(store::Transaction& transaction, Session& session, uint64_t begun, std::span<const Outcome> outcomes) {
  Packer answers;
  for (const Outcome& outcome : outcomes)
    if (outcome.kept && !outcome.taken) answers.array(4).add(outcome.number).add(outcome.last()).add(Raw{outcome.answer});
  return ledger_.put_record(transaction, {session.id, session.serial + 1, session.key, begun, session.floor, answers.bytes()});
}

// The ledger's transaction happens, with the record of what it means to the session. An error: nothing has.
Result<void> Server::commit(Session& session, uint64_t begun, std::span<Outcome> outcomes, bool always) {
  for (const Outcome& outcome : outcomes)  // done at once
    std::erase_if(session.to_open, [&](uint64_t number) { return outcome.number <= number && number <= outcome.last(); });
  bool records = always || begun > session.begun || !session.to_open.empty() ||
                 std::any_of(outcomes.begin(), outcomes.end(), [](const Outcome& one) { return one.kept && !one.taken; });
  bool changes = records || !outcomes.empty();
  if (!changes) return {};
  auto done = [&]() -> Result<void> {
    for (uint64_t number : session.to_open)
      if (auto put = ledger_.put_open(session.id, number); !put) return put;
    for (const Outcome& outcome : outcomes)
      if (const Slot* slot = session.slots.find(outcome.number); slot && slot->open)
        if (auto dropped = ledger_.drop_open(session.id, outcome.number); !dropped) return dropped;
    if (records) {
      for (const auto& [serial, unconfirmed] : session.records)
        if (unconfirmed == 0)
          if (auto dropped = ledger_.drop_record(ledger_.transaction(), session.id, serial); !dropped) return dropped;
      if (auto put = put_record(ledger_.transaction(), session, begun, outcomes); !put) return put;
    }
    GODWIT_FAULT_POINT("clients.before_commit");
    return ledger_.commit();
  }();
  if (!done) return ledger_.roll_back(), done;
  GODWIT_FAULT_POINT("clients.after_commit");
  for (uint64_t number : std::exchange(session.to_open, {})) session.slots[number].open = true;
  if (records) std::erase_if(session.records, [](const auto& record) { return record.second == 0; });
  recorded(session, begun, outcomes, records);
  return {};
}

// What was done is known here, too. in_ledger: a record of it has been put.
void Server::recorded(Session& session, uint64_t begun, std::span<Outcome> outcomes, bool in_ledger) {
  session.begun = begun;
  session.unwritten = std::max(session.unwritten, std::exchange(desk_.unwritten, 0));
  if (in_ledger) session.records[++session.serial] = 0;
  for (Outcome& outcome : outcomes) {
    if (session.slots[outcome.number].waiting) stop_waiting(session, outcome.number);
    session.to_begin_again.erase(session.to_begin_again.lower_bound(outcome.number), session.to_begin_again.upper_bound(outcome.last()));
    Slot& slot = session.slots[outcome.number];
    bool has_record = in_ledger && outcome.kept && !outcome.taken;
    if (slot.is_done()) session.usage->memory -= slot.memory();
    if (slot.record) --session.records[slot.record];
    slot = {std::move(outcome.answer), has_record ? session.serial : 0, outcome.taken, false, nullptr, outcome.more};
    if (has_record) session.records[session.serial] += 1 + outcome.more;
    session.usage->memory += slot.memory();
    session.to_send.push_back({outcome.number, outcome.last()});
  }
}

// An outcome that goes with what is in the ledger's transaction, or with nothing. Where there is no room even to record that it
// failed, it is said all the same.
void Server::settle(Session& session, uint64_t begun, Outcome outcome) {
  auto done = commit(session, begun, {&outcome, 1});
  if (done) return;
  if (outcome.kept) {
    outcome = {outcome.number, failed(done.error())};
    if (commit(session, begun, {&outcome, 1})) return;
  }
  recorded(session, begun, {&outcome, 1}, false);
}

}  // namespace godwit::clients
