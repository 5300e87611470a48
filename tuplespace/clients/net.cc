// The space "net", the socket traffic of this host, as clients have it: they look at it, and who may mediate takes and puts bytes on
// their way between two programs. What is taken is no longer the stream's, and cannot go back: it is answered until it is confirmed,
// and is gone with its session.
#include <algorithm>

#include "tuplespace/clients/server.hh"
#include "tuplespace/fault.hh"
#include "tuplespace/objects.hh"
#include "tuplespace/streams/spaces.hh"

namespace godwit::clients {
namespace {

constexpr auto kLookPause = Milliseconds(1);  // traffic that does not match must not take all of the time

Rights needed(Op op) {
  if (op == Op::kIn || op == Op::kOut) return kMediate;
  return kRead;
}

}  // namespace

Error not_of_net() {
  return make_error(std::errc::operation_not_supported, "socket traffic has rd, count, all, copy_collect, in and out alone; use another space");
}

bool is_of_net(const Request& request) { return request.space == kNetSpace && request.op != Op::kCreate && request.op != Op::kDrop; }

Server::Step Server::of_net(Session& session, Request& request, std::vector<Outcome>& outcomes) {
  Op op = request.op;
  bool changes = op == Op::kIn || op == Op::kOut;
  outcomes[0].kept = changes || op == Op::kCopyCollect;
  if (auto no = refused(session, kNetSpace, needed(op))) return *no;
  if (op == Op::kCopyCollect) return copy_net(session, request);
  if (op == Op::kCount) return std::optional(done(pack(count(net_, TemplateViews(request.wanted)))));
  if (op != Op::kAll && op != Op::kRd && !changes) return not_of_net();
  uint64_t number = outcomes[0].number;
  auto answer = try_net(session, number, op, request.wanted, request.tuples);
  if (!answer || *answer) return answer;
  if (request.wait == Milliseconds(0)) return std::optional(op == Op::kOut ? done(false) : done(nullptr));
  if (auto no = has_no_waiter_left(session)) return *no;
  auto waiting = std::make_unique<Waiting>(Waiting{op, std::string(kNetSpace)});
  waiting->wanted = std::move(request.wanted);
  for (TupleView tuple : request.tuples) waiting->tuples.push_back(to_tuple(tuple));
  wait(session, number, std::move(waiting), request.wait);
  nets_.emplace(&session, number);
  net_rung_ = true;
  return std::optional<Body>();
}

// nullopt: there is nothing now, or no room.
Server::Step Server::try_net(Session& session, uint64_t number, Op op, std::span<const Template> wanted, std::span<const TupleView> tuples) {
  TemplateViews views(wanted);
  if (op == Op::kAll) {
    Packer all;
    size_t many = 0;
    net_.for_each(views, [&](TupleView tuple) {
      if (wanted.empty() || match_any(views, tuple)) add(all, tuple), ++many;
      return has_memory_for(session, all.bytes().size());
    });
    if (!has_memory_for(session, all.bytes().size())) return no_memory_left();
    return std::optional(done(Packer().array(many).add(Raw{all.bytes()}).take()));
  }
  if (op != Op::kOut) {
    auto there = rdp(net_, views);
    if (!there) return std::optional<Body>();
    if (op == Op::kRd) return std::optional(done(encode(*there)));
  }
  if (op == Op::kOut && tuples.size() != 1) return make_error(std::errc::invalid_argument, "an out of net puts one tuple; ask several times");
  if (auto noted = note_doubt(session, number); !noted) return noted.error();
  Result<void> put;
  std::optional<Tuple> taken;
  if (op == Op::kOut) put = mediator_.out(tuples[0], Clock::now());
  else taken = mediator_.inp(views);
  GODWIT_FAULT_POINT("clients.after_doubtful");
  if (op == Op::kOut && put) return std::optional(done(true));
  if (taken) return std::optional(done(encode(*taken)));
  if (auto forgotten = commit(session, session.begun, {}, true); !forgotten) return forgotten.error();  // the doubt
  if (!put && put.error().code != std::errc::timed_out) return put.error();
  return std::optional<Body>();
}

Server::Step Server::copy_net(Session& session, Request& request) {
  if (auto no = refused(session, request.to, kPut)) return *no;
  auto to = open(request.to);
  if (!to) return to.error();
  TemplateViews views(request.wanted);
  uint64_t many = 0;
  Result<void> put;
  net_.for_each(views, [&](TupleView tuple) {
    if (!request.wanted.empty() && !match_any(views, tuple)) return true;
    put = to->out_within(ledger_.transaction(), tuple);
    ++many;
    return put.has_value();
  });
  if (!put) return put.error();
  return std::optional(done(pack(many)));
}

void Server::look_at_net() {
  auto now = Clock::now();
  if (nets_.empty() || !net_rung_ || now - looked_at_net_ < kLookPause) return;
  looked_at_net_ = now;
  net_rung_ = false;
  std::vector<Template> all;
  bool puts = false;
  for (auto [session, number] : nets_) {
    const Waiting& waiting = *session->slots[number].waiting;
    all.insert(all.end(), waiting.wanted.begin(), waiting.wanted.end());
    puts |= waiting.op == Op::kOut;
  }
  uint32_t mark = net_.subscribe(TemplateViews(all));
  for (auto [session, number] : std::set(nets_)) {
    const Waiting& waiting = *session->slots[number].waiting;
    std::vector<FieldView> put = waiting.op == Op::kOut ? views_of(waiting.tuples[0]) : std::vector<FieldView>();
    TupleView tuple = put;
    auto answer = try_net(*session, number, waiting.op, waiting.wanted, {&tuple, 1});
    if (answer && !*answer) continue;
    settle(*session, session->begun, {number, answer ? std::move(**answer) : failed(answer.error()), waiting.op != Op::kRd});
    unsent_.insert(session);
  }
  if (puts) net_rung_ = true;  // nobody rings for room: it is looked for again
  if (!nets_.empty()) net_waiter_.wait_since(mark);
}

}  // namespace godwit::clients
