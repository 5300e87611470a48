#include "tuplespace/clients/server.hh"

#include <sys/eventfd.h>

#include <algorithm>
#include <random>

#include "tuplespace/fault.hh"
#include "tuplespace/objects.hh"
#include "tuplespace/store/durability.hh"
#include "tuplespace/store/errors.hh"
#include "tuplespace/store/sleep.hh"

namespace godwit::clients {
namespace {

constexpr auto kSilence = std::chrono::seconds(10);
constexpr auto kPause = Milliseconds(5);    // before what could not be done is tried again
constexpr double kBurst = 0.1;              // seconds of a key's rate that may come at once
constexpr size_t kReplyBytes = 1 << 20;     // after which another message begins
constexpr int kTurn = 64;                   // messages between two looks at what else there is
constexpr uint64_t kMostSessions = 10'000;  // of a key; and of those that are over

Error unknown_session() {
  return Error{std::error_code(ESTALE, std::generic_category()), "the node does not know the session, or no longer; begin another"};
}

// Positive, and with room to count on.
uint64_t random_start() {
  std::random_device device;
  return (uint64_t{device()} << 32 | device()) >> 2 | 1;
}

void append(std::vector<Run>& runs, uint64_t number) {
  if (!runs.empty() && runs.back().last + 1 == number) ++runs.back().last;
  else runs.push_back({number, number});
}

}  // namespace

Result<std::unique_ptr<Server>> Server::make(const Home& home, const shared::Segment& segment) {
  auto desk = store::Desk::of(segment);
  if (!desk) return desk.error();
  store::Requests* mine = store::requests_of(**desk);
  if (!mine) return store::segment_full();
  auto ledger = Ledger::open(segment);
  if (ledger && !ledger->read()) {  // damaged: sessions are lost, and others can begin
    (void)store::drop_space(**desk, kSessionsSpace);
    ledger = Ledger::open(segment);
  }
  if (!ledger) return ledger.error();
  std::unique_ptr<Server> server(new Server(home, segment, std::move(*ledger), **desk, *mine));
  if (auto recovered = server->recover(); !recovered) return recovered.error();
  return server;
}

// What the ringer says is never lost: it goes by the last bell that it told of.
Server::Server(const Home& home, const shared::Segment& segment, Ledger ledger, store::Desk& desk, store::Requests& mine)
    : home_(home), segment_(segment), ledger_(std::move(ledger)), desk_(desk), mine_(mine), registry_(home), audit_(home),
      incarnation_(random_start()), last_id_(random_start()), bell_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), net_(desk.self),
      mediator_(desk.self), net_waiter_(net_, segment, [this] {
        net_rung_ = true;
        eventfd_write(bell_.get(), 1);
      }) {
  desk.waits_for_disk = false;
  ringer_ = std::jthread([this, seen = mine_.bell.load()](const std::stop_token& stop) mutable {
    while (!stop.stop_requested()) {
      (void)store::await_ring(mine_, seen, kForever);
      if (uint32_t now = mine_.bell.load(); std::exchange(seen, now) != now) eventfd_write(bell_.get(), 1);
    }
  });
}

Server::~Server() {
  ringer_.request_stop();
  store::ring(mine_);
  ringer_.join();
  for (auto& [id, session] : sessions_) clear(*session);
  auto desk = store::Desk::of(segment_);
  if (sessions_.empty() && desk) (void)store::drop_space(**desk, kSessionsSpace);
}

Result<std::string> Server::listen(const CommunityKey& key, const std::string& address) {
  auto endpoint = Endpoint::open(key, address, [this](std::string_view client, std::string_view from) {
    refresh_clients();
    auto known = registry_.find(client);
    audit_.note(known ? known->name : "-", known ? "accepted" : "refused", std::string("from ").append(from).append(known ? "" : " key ").append(known ? "" : client));
    return known != nullptr;
  });
  if (!endpoint) return endpoint.error();
  endpoint_ = std::move(*endpoint);
  return endpoint_->address();
}

void Server::stop() {
  stop_ = true;
  eventfd_write(bell_.get(), 1);
}

void Server::on_written() {
  if (awaits_disk_.load()) eventfd_write(bell_.get(), 1);
}

void Server::run() {
  for (auto looked = Clock::now(); !stop_;) {
    const int fds[] = {bell_.get(), registry_.fd()};
    if (endpoint_->wait(std::span(fds, registry_.fd() < 0 ? 1 : 2), time_to_wait())) {
      eventfd_t rings;
      eventfd_read(bell_.get(), &rings);
      refresh_clients();
    }
    endpoint_->admit();
    receive();
    for (uint32_t request : store::answered(mine_)) look_at(request);
    handle_throttled();
    look_at_watches();
    look_at_rooms();
    look_at_net();
    run_timers();
    send_unsent();
    send_written();
    if (auto now = Clock::now(); now - looked >= store::kTick) looked = now, tick();
  }
}

void Server::tick() {
  look_at_all();
  refresh_clients();
  end_silent();
  std::erase_if(over_, [now = Clock::now()](const auto& one) { return one.second <= now; });
  for (auto& [key, usage] : usages_)
    while (!usage->over.empty() && !over_.contains(usage->over.front())) usage->over.pop_front();
}

Milliseconds Server::time_to_wait() const {
  auto now = Clock::now(), until = now + store::kTick;
  if (!unsent_.empty() || !rooms_.empty() || !throttled_.empty() || (!nets_.empty() && net_rung_)) until = now + kPause;
  if (!timers_.empty()) until = std::min(until, timers_.begin()->first);
  return std::max(std::chrono::ceil<Milliseconds>(until - now), Milliseconds(0));
}

void Server::receive() {
  Endpoint::Incoming incoming;
  for (int i = 0; i < kTurn && endpoint_->receive(incoming); ++i) on_message(incoming);
}

void Server::on_message(Endpoint::Incoming& incoming) {
  auto client = registry_.find(incoming.key);
  if (!client) return say_over(incoming.route, {}, make_error(std::errc::permission_denied, "the key was revoked; ask for another"));
  auto message = incoming.is_whole && incoming.protocol == kProtocol
                     ? read(incoming.body)
                     : make_error(std::errc::bad_message, "this is no message of GC1; see docs/protocol.md");
  if (!message) {
    audit_.note(client->name, "garbage", message.error().what);
    if (auto session = routes_.find(incoming.route); session != routes_.end()) return end(*session->second, message.error());
    return say_over(incoming.route, {}, message.error());
  }
  Session* session = find_session(*message, incoming);
  if (!session) return;
  if (session->backlog.empty() && may_go_on(*session)) return handle(*session, *message);
  audit_.note(client->name, "limited", "rate");
  if (!has_memory_for(*session, incoming.body.size())) return;  // as if it were lost
  session->usage->memory += incoming.body.size();
  session->backlog.push_back(std::move(incoming.body));
  throttled_.insert(session);
}

// Whether the rate of its key allows more. What is done beyond is paid for later.
bool Server::may_go_on(Session& session) {
  Usage& usage = *session.usage;
  auto now = Clock::now();
  double rate = static_cast<double>(session.client->limits.rate);
  usage.tokens = std::min(usage.tokens + std::chrono::duration<double>(now - usage.counted).count() * rate, rate * kBurst);
  usage.counted = now;
  return usage.tokens > 0;
}

void Server::handle_throttled() {
  for (Session* session : std::set(throttled_))
    while (throttled_.contains(session) && may_go_on(*session)) {
      std::string body = std::move(session->backlog.front());
      session->backlog.pop_front();
      session->usage->memory -= body.size();
      if (session->backlog.empty()) throttled_.erase(session);
      if (auto message = read(body)) handle(*session, *message);
    }
}

void Server::say_over(const std::string& route, std::string_view session, const Error& error) {
  if (!route.empty()) (void)endpoint_->send(route, over(session, incarnation_, error));
}

Session* Server::find_session(const Message& message, const Endpoint::Incoming& incoming) {
  auto found = sessions_.find(message.session);
  if (found == sessions_.end()) {
    auto usage = usages_.find(incoming.key);
    if (over_.contains(message.session)) return say_over(incoming.route, message.session, unknown_session()), nullptr;
    if (message.first != 1 && message.floor == 1) return nullptr;  // its first message was lost
    if (message.first != 1) return say_over(incoming.route, message.session, unknown_session()), nullptr;
    if (usage != usages_.end() && usage->second->sessions >= kMostSessions) {
      Error error{std::error_code(EDQUOT, std::generic_category()), "the key has too many sessions; end some"};
      return say_over(incoming.route, message.session, error), nullptr;
    }
    begin_session(message.session, incoming.key);
    found = sessions_.find(message.session);
  }
  Session& session = *found->second;
  if (session.key != incoming.key) return say_over(incoming.route, message.session, unknown_session()), nullptr;
  if (session.route != incoming.route) {
    routes_.erase(session.route);
    routes_[incoming.route] = &session;
    session.route = incoming.route;
  }
  session.heard = Clock::now();
  by_hearing_.splice(by_hearing_.end(), by_hearing_, session.place);
  return &session;
}

Session& Server::begin_session(const std::string& id, const std::string& key) {
  auto& session = sessions_[id] = std::make_unique<Session>();
  session->id = id;
  session->key = key;
  session->client = registry_.find(key);
  auto& usage = usages_[key];
  if (!usage) usage = std::make_shared<Usage>();
  ++usage->sessions;
  session->usage = usage;
  session->heard = Clock::now();
  session->place = by_hearing_.insert(by_hearing_.end(), session.get());
  return *session;
}

// ---- what an earlier node has left

Result<void> Server::recover() {
  auto left = ledger_.read();
  if (!left) return left.error();
  for (auto& [id, one] : *left) recover(id, one);
  return {};
}

void Server::recover(const std::string& id, Left& left) {
  if (left.over) remember_over(id, left.key);
  if (left.over && left.records.empty() && left.taken.empty() && left.open.empty()) return;
  Session& session = begin_session(id, left.key);
  session.floor = std::max<uint64_t>(left.floor, 1);
  session.begun = session.recovered = left.begun;
  for (const auto& [number, kept] : left.taken) {
    Packer packer;
    add(packer, views_of(kept.tuple));
    session.slots[number] = Slot{done(packer.take()), 0, true, false, nullptr};
  }
  for (const Left::Record& record : left.records) {
    session.serial = record.serial;
    session.records[record.serial] = 0;
    for (auto& [number, answer] : read_answers(record.answers)) {
      if (number < session.floor || left.taken.contains(number)) continue;
      session.slots[number] = Slot{std::move(answer), record.serial, false, false, nullptr};
    }
  }
  for (auto& [number, slot] : session.slots) {
    session.usage->memory += slot.memory();
    if (slot.record) ++session.records[slot.record];
  }
  session.to_begin_again.insert(left.open.begin(), left.open.end());
  if (left.over) end(session, unknown_session());
}

// ---- the end of a session

void Server::end(Session& session, const Error& why) {
  (void)ledger_.note_over(session.id, session.key);
  remember_over(session.id, session.key);
  audit_.note(session.client ? session.client->name : "-", "over", why.message());
  clear(session);
  for (auto& [number, slot] : session.slots) {
    if (!slot.taken) continue;
    if (put_back(session.id, number)) (void)ledger_.commit();
    else ledger_.roll_back();  // without memory now: the next node does it
    GODWIT_FAULT_POINT("clients.session_ends");
  }
  for (auto& [serial, count] : session.records) (void)ledger_.drop_record(ledger_.transaction(), session.id, serial);
  for (uint64_t number : session.to_begin_again) (void)ledger_.drop_open(session.id, number);
  for (auto& [number, slot] : session.slots)
    if (slot.open) (void)ledger_.drop_open(session.id, number);
  (void)ledger_.commit();
  for (auto& [number, slot] : session.slots)
    if (slot.is_done()) session.usage->memory -= slot.memory();
  for (const std::string& message : session.backlog) session.usage->memory -= message.size();
  --session.usage->sessions;
  say_over(session.route, session.id, why);
  throttled_.erase(&session);
  unsent_.erase(&session);
  unwritten_.erase(&session);
  if (auto route = routes_.find(session.route); route != routes_.end() && route->second == &session) routes_.erase(route);
  by_hearing_.erase(session.place);
  sessions_.erase(sessions_.find(session.id));
}

void Server::end_by_wish(Session& session) {
  session.is_ending = unwritten_.contains(&session);
  if (!session.is_ending) end(session, make_error(std::errc::operation_canceled, "the client has ended the session; begin another"));
}

// The longest ago is forgotten, if a key has too many.
void Server::remember_over(const std::string& session, const std::string& key) {
  bool is_known = over_.contains(session);
  over_[session] = Clock::now() + kOverFor;
  if (is_known) return;
  auto& usage = usages_[key];
  if (!usage) usage = std::make_shared<Usage>();
  usage->over.push_back(session);
  if (usage->over.size() <= kMostSessions) return;
  over_.erase(usage->over.front());
  (void)ledger_.forget_over(usage->over.front());
  usage->over.pop_front();
}

// What ends with the node too.
void Server::clear(Session& session) {
  for (auto& [number, slot] : session.slots)
    if (slot.waiting) stop_waiting(session, number);
  auto desk = store::Desk::of(segment_);
  for (auto& [id, transaction] : session.transactions)
    if (desk) store::end_transaction(**desk, *(*desk)->bench, *transaction);
  for (auto& [id, lease] : session.leases) (void)lease.store.release(lease.delivery, {});
  for (auto& [id, watch] : session.watches) watch.store.end_watch(watch.watching);
  session.usage->waiters -= session.transactions.size() + session.leases.size() + session.watches.size();
  session.transactions.clear();
  session.leases.clear();
  session.watches.clear();
}

// False: there is none. In the ledger's transaction, but for one of a space that is gone, which is gone with it.
Result<bool> Server::put_back(std::string_view session, uint64_t number) {
  auto kept = ledger_.drop_taken(session, number);
  if (!kept) return kept.error();
  if (!*kept) return false;
  auto store = open((*kept)->space);
  if (!store) return true;
  auto put = store->out_within(ledger_.transaction(), views_of((*kept)->tuple), (*kept)->lifetime);
  if (!put) return put.error();
  return true;
}

void Server::end_silent() {
  auto now = Clock::now();
  while (!by_hearing_.empty() && by_hearing_.front()->heard + kSilence <= now)
    end(*by_hearing_.front(), make_error(std::errc::timed_out, "nothing was heard of the client for 10 s; begin another session"));
}

void Server::refresh_clients() {
  if (!registry_.refresh()) return;
  for (const std::string& fault : registry_.faults()) audit_.note("-", "fault", fault);
  std::vector<Session*> revoked;
  for (auto& [id, session] : sessions_) {
    session->client = registry_.find(session->key);
    if (!session->client) revoked.push_back(session.get());
  }
  for (Session* session : revoked) end(*session, make_error(std::errc::permission_denied, "the key was revoked; ask for another"));
}

// ---- answers

void Server::send(Session& session, bool at_least_one) {
  if (session.unwritten > segment_.header().log_written.load()) {
    unwritten_.insert(&session);
    return;
  }
  Reply reply(session.id, incarnation_);
  std::vector<Run> runs = std::exchange(session.to_send, {}), here;
  unsent_.erase(&session);
  if (session.route.empty()) return;
  auto send_reply = [&] {
    auto sent = endpoint_->send(session.route, reply.take());
    if (sent == Endpoint::Sent::kFull) session.to_send.insert(session.to_send.end(), here.begin(), here.end());
    here.clear();
    at_least_one = false;
    return sent == Endpoint::Sent::kYes;
  };
  size_t i = 0;
  for (bool goes_on = true; i < runs.size(); ++i) {
    for (uint64_t& number = runs[i].first; goes_on && number <= runs[i].last; ++number) {
      const Slot* slot = session.slots.find(number);
      if (!slot || !slot->is_done()) continue;
      reply.add(number, slot->answer);
      append(here, number);
      if (reply.size() >= kReplyBytes) goes_on = send_reply();
    }
    if (!goes_on) break;
  }
  if (!reply.is_empty() || at_least_one) send_reply();
  if (session.to_send.empty()) return;  // or the route is gone: the client will ask again
  session.to_send.insert(session.to_send.end(), runs.begin() + static_cast<long>(i), runs.end());
  unsent_.insert(&session);
}

// Whoever writes looks whether we wait after he has said what is on disk, and we at that after we have said that we wait.
void Server::send_written() {
  awaits_disk_ = !unwritten_.empty();
  if (!awaits_disk_) return;
  uint64_t written = segment_.header().log_written.load();
  auto failed = store::log_failure(desk_);
  for (Session* session : std::set(unwritten_)) {
    bool is_written = session->unwritten <= written;
    if (!is_written && !failed) continue;
    unwritten_.erase(session);
    if (!is_written) {
      end(*session, *failed);
    } else {
      send(*session, true);
      if (session->is_ending) end_by_wish(*session);
    }
  }
  awaits_disk_ = !unwritten_.empty();
}

void Server::send_unsent() {
  for (Session* session : std::exchange(unsent_, {})) send(*session, false);
}

}  // namespace godwit::clients
