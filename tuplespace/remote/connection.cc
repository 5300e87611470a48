#include "tuplespace/remote/connection.hh"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <list>
#include <thread>

#include "tuplespace/fault.hh"

namespace godwit::remote {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kProtocol = "GC1";
constexpr size_t kBatch = 64 << 10;        // bytes of requests that do not wait for the message before theirs
constexpr size_t kWindow = 1 << 20;        // bytes of them under way
constexpr size_t kMaxRequest = (16 << 20) - 2 * kBatch;  // bytes: so much goes behind those that are not sent yet
constexpr size_t kMostAnswered = 1024;     // answers that the node keeps for us behind a request that waits
constexpr ptrdiff_t kMostGot = 4096;       // in one request
constexpr std::chrono::steady_clock::duration kTick = 500ms, kReconnect = 50ms, kHeartbeat = 1s, kFirstPause = 1s, kLastPause = 4s;
constexpr std::chrono::steady_clock::duration kPatience = 30s, kFirstPatience = 10s;

std::string random_id() {
  std::string id(16, 0);
  GODWIT_CHECK(getrandom(id.data(), id.size(), 0) == static_cast<ssize_t>(id.size()));
  return id;
}

Error lost(const std::string& why) {
  return make_error(std::errc::connection_reset, why + "; what became of it is not known: look, and do it again if need be");
}

Error error_of(const msgpack::object& object) {
  std::array<msgpack::object, 2> pair;
  int code = EPROTO;
  std::string text;
  if (decode(object, pair)) (void)(decode(pair[0], code) && decode(pair[1], text));
  return Error{std::error_code(code, std::generic_category()), std::move(text)};
}

// Nobody wants to know.
class Nobody final : public Asked {
 public:
  void tell(const Object&) override {}
  void fail(const Error&) override {}
};
const std::shared_ptr<Asked>& nobody() {
  static const auto& one = *new std::shared_ptr<Asked>(std::make_shared<Nobody>());
  return one;
}

Packed request_about(const char* name, uint64_t number) {
  Packer packer;
  packer.array(2).add(name).add(number);
  return packer.take();
}

// What a process has; never taken apart.
struct All {
  std::mutex lock;
  uint64_t process = 0;
  DealerContext* context = nullptr;
  std::map<std::string, Connection*> connections;
  std::list<std::pair<DealerContext*, decltype(connections)>> parents;  // what a child of fork cannot end
};
std::atomic<uint64_t> process_number = 1;

All& all() {
  static auto& one = *new All;
  return one;
}

}  // namespace

Error Connection::unknown_key() const {
  return make_error(std::errc::connection_refused, key_.address + " does not know this key, or no longer; have one made there with godwit keygen");
}

// Who waits for an answer.
class Connection::Call final : public Asked {
 public:
  explicit Call(bool takes = false) : takes_(takes) {}
  Then look(const msgpack::object&) override { return takes_ ? Then::kDecideLater : Then::kTell; }
  void tell(const Object& object) override { result = object, is_over = true; }
  void fail(const Error& failure) override { error = failure, is_over = true; }
  /// Borrowed.
  std::shared_ptr<Asked> pointer() { return {std::shared_ptr<void>(), this}; }

  Object result;
  std::optional<Error> error;
  bool is_over = false;

 private:
  const bool takes_;
};

// Takes that are told when this request, which confirms them, is answered.
struct Connection::Got final : Asked {
  explicit Got(std::vector<std::pair<std::shared_ptr<Asked>, Object>> taken) : taken(std::move(taken)) {}
  void tell(const Object&) override {
    for (auto& [asked, result] : taken) asked->tell(result);
  }
  void fail(const Error& error) override {
    for (auto& [asked, result] : taken) asked->fail(error);
  }
  std::vector<std::pair<std::shared_ptr<Asked>, Object>> taken;
};

uint64_t Connection::process() { return process_number.load(std::memory_order_relaxed); }

Result<Connection*> Connection::of(const std::string& key_file) {
  All& mine = all();
  std::lock_guard guard(mine.lock);
  if (mine.process == 0) {
    std::atexit(end_all);
    pthread_atfork(nullptr, nullptr, [] { ++process_number; });
  }
  if (mine.process != process()) {
    if (mine.process != 0) mine.parents.emplace_back(mine.context, std::exchange(mine.connections, {}));
    mine.context = new DealerContext;
    mine.process = process();
  }
  auto known = mine.connections.find(key_file);
  if (known != mine.connections.end()) return known->second;
  auto key = read_key_file(key_file);
  if (!key) return key.error();
  return mine.connections[key_file] = new Connection(std::move(*key));
}

Connection::Connection(ClientKey key)
    : key_(std::move(key)), nudge_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), pause_(kFirstPause) {}

// At the end of the process: what was begun is done, and the node need not wait for a sign of life.
void Connection::end_all() {
  All& mine = all();
  std::lock_guard all_guard(mine.lock);
  if (mine.process != process()) return;
  for (auto& [path, connection] : mine.connections) {
    Guard guard(connection->lock_);
    if (connection->is_over_ || !connection->heard_) continue;
    Call call;
    Packer end;
    end.array(1).add("end");
    if (connection->append(end.bytes(), call.pointer(), {connection->session_}, {.waited_for = true}))
      connection->wait(guard, [&] { return call.is_over; }, Clock::now() + 1s);
    if (!call.is_over) connection->end_session(lost("the program ended"));
    connection->is_over_ = true;
  }
}

Result<Answered> Connection::ask(std::string_view request, const std::stop_token& stop, uint64_t life) {
  return ask(request, stop, {.life = life}, false);
}
Result<Answered> Connection::take(std::string_view request, const std::stop_token& stop) { return ask(request, stop, {}, true); }

Result<Answered> Connection::ask(std::string_view request, const std::stop_token& stop, Owner owner, bool takes) {
  if (stop.stop_requested()) return make_error(std::errc::operation_canceled, "stopped");
  Call call(takes);
  auto over = [&] { return call.is_over; };
  Guard guard(lock_);
  auto number = append(request, call.pointer(), owner, {.waited_for = true});
  if (!number) return number.error();
  if (stop.stop_possible()) {
    guard.unlock();
    std::stop_callback on_stop(stop, [&] { cancel(*number); });
    guard.lock();
    wait(guard, over);
    guard.unlock();
  } else {
    wait(guard, over);
  }
  if (call.error) return std::move(*call.error);
  return Answered{std::move(call.result), *number};
}

// Without waiting for what comes of it.
void Connection::cancel(Number request) {
  Guard guard(lock_);
  if (append(request_about("cancel", request.number), nobody(), {request.session}, {}) && flush()) work();
  if (!attendant_ && unattended_ > 0) call_keeper();
}

bool Connection::is_alive(uint64_t life) {
  Guard guard(lock_);
  return !is_over_ && life == life_;
}

// From now on it may be confirmed.
void Connection::decided(Number take) {
  if (take.session == session_ && undecided_.erase(take.number) && take.number > floor()) answered_.push_back(take.number);
}

Result<void> Connection::confirm(Number take) {
  GODWIT_FAULT_POINT("remote.taken");
  Call call;
  Guard guard(lock_);
  if (is_over_ || session_ != take.session) return lost("the session has ended");
  decided(take);
  taken_.emplace_back(call.pointer(), Object());
  wait(guard, [&] { return call.is_over; });
  if (call.error) return std::move(*call.error);
  return {};
}

Result<bool> Connection::put_back(Number take) {
  auto answer = ask(request_about("cancel", take.number), {}, {take.session}, false);
  Guard guard(lock_);
  decided(take);
  if (!answer) return answer.error();
  return answer->result.object->type == msgpack::type::BOOLEAN && answer->result.object->via.boolean;
}

Number Connection::begin(std::string_view request, std::shared_ptr<Asked> asked, uint64_t life, bool windowed) {
  Guard guard(lock_);
  // Until there is half of it: to wait again and again takes longer.
  if (windowed && window_ >= kWindow) wait(guard, [&] { return window_ <= kWindow / 2; });
  auto number = append(request, asked, {.life = life}, {.windowed = windowed});
  if (!number) {
    asked->fail(number.error());
    return {};
  }
  if (flush()) work();
  if (!attendant_ && unattended_ > 0) call_keeper();
  return *number;
}

bool Connection::wait_until(const Condition& holds, const Wait& given) {
  bool stopped = false;
  auto over = [&] { return stopped || holds(); };
  std::optional<std::stop_callback<std::function<void()>>> on_stop;
  if (given.stop.stop_possible())
    on_stop.emplace(given.stop, [&] {
      Guard guard(lock_);
      stopped = true;
      wake();
    });
  Guard guard(lock_);
  wait(guard, over, given.deadline);
  return holds();
}

bool Connection::look(const Condition& holds) {
  Guard guard(lock_);
  return holds();
}

// ---- Asking

std::optional<Error> Connection::begin_session() {
  auto dealer = Dealer::connect(*all().context, key_);
  if (!dealer) return dealer.error();
  dealer_ = std::move(*dealer);
  connected_ = Clock::now();
  id_ = random_id();
  ++session_, ++life_;
  is_over_ = heard_ = false;
  incarnation_ = 0;
  next_ = 1;
  if (!std::exchange(keeper_runs_, true)) std::thread([this] { run(); }).detach();
  return std::nullopt;
}

Result<Number> Connection::append(std::string_view request, std::shared_ptr<Asked> asked, Owner owner, Manner manner) {
  if (request.size() > kMaxRequest)
    return make_error(std::errc::message_size, "at most 16 MiB go to another host at once; put less in one tuple");
  bool is_orphan = (owner.session != 0 && owner.session != session_) || (owner.life != 0 && owner.life != life_);
  if (is_orphan || (is_over_ && (owner.session != 0 || owner.life != 0)))
    return make_error(std::errc::connection_reset, "what this belongs to has ended with its session, or with the host's node; begin it anew");
  if (is_over_)
    if (auto error = begin_session()) return *error;
  if (!unsent_) unsent_ = &open_.try_emplace(open_.end(), next_)->second;
  unsent_->requests.push_back({std::move(asked), manner, request.size()});
  unsent_->bytes.append(request);
  if (!manner.waited_for) ++unattended_;
  if (manner.windowed) window_ += request.size();
  return Number{session_, next_++};
}

// ---- Who attends

void Connection::wait(Guard& guard, const Condition& over, Deadline until) {
  Follower me{over, {}};
  if (flush() && attendant_) work();
  while (!over() && Clock::now() < until) {
    if (!attendant_) {
      attend(guard, over, until);
      continue;
    }
    me.leads = false;  // another was faster
    auto place = followers_.insert(followers_.end(), &me);
    auto ready = [&] { return me.leads || over(); };
    if (until == kForever) me.changed.wait(guard, ready);
    else me.changed.wait_until(guard, until, ready);
    followers_.erase(place);
  }
  if (me.leads && !attendant_) hand_over();
}

void Connection::attend(Guard& guard, const Condition& over, Deadline until) {
  attendant_ = &over;
  attendant_thread_ = std::this_thread::get_id();
  for (;;) {
    work();
    auto now = Clock::now();
    if (now >= next_tick_) {
      tick(now);
      work();
    }
    if (over() || now >= until) break;
    std::array<pollfd, 3> watched{{{nudge_.get(), POLLIN, 0},
                                   {dealer_ ? dealer_->fd() : -1, POLLIN, 0},
                                   {dealer_ ? dealer_->monitor_fd() : -1, POLLIN, 0}}};
    auto limit = std::chrono::ceil<std::chrono::milliseconds>(std::min(until, next_tick_) - now);
    guard.unlock();
    ::poll(watched.data(), watched.size(), static_cast<int>(limit.count()));
    guard.lock();
    if (watched[0].revents) {
      uint64_t nudges;
      (void)!::read(nudge_.get(), &nudges, sizeof nudges);
    }
    if (watched[2].revents) look_at_events();
  }
  attendant_ = nullptr;
  hand_over();
}

void Connection::hand_over() {
  for (Follower* follower : followers_)
    if (!follower->over()) {
      follower->leads = true;
      return follower->changed.notify_one();
    }
  if (unattended_ > 0) call_keeper();
}

void Connection::call_keeper() {
  if (!std::exchange(keeper_called_, true)) keeper_.notify_one();
}

// The connection's thread: attends to what nobody waits for, and gives signs of life.
void Connection::run() {
  Guard guard(lock_);
  for (;;) {
    if (!attendant_ && unattended_ > 0) attend(guard, [this] { return unattended_ == 0; }, kForever);
    keeper_called_ = false;
    keeper_.wait_until(guard, std::max(next_tick_, Clock::now() + kTick / 10), [this] { return keeper_called_; });
    auto now = Clock::now();
    if (attendant_ || now < next_tick_) continue;
    work();
    tick(now);
  }
}

// ---- Messages

// What uses the socket receives until there is nothing more (dealer.hh).
void Connection::work() {
  do (void)flush();
  while (receive());
}

// Whether it has used the socket.
bool Connection::flush() {
  if (is_over_) return false;
  if (!taken_.empty() || answered_.size() >= kMostAnswered) add_got();
  if (!unsent_ || waits_for_more()) return false;
  send(first_unsent(), unsent_->requests.size(), unsent_->bytes);
  unsent_ = nullptr;
  return true;
}

// What is asked goes into one message with what comes while another is on its way.
bool Connection::waits_for_more() const { return on_their_way_ > 0 && (!unsent_ || unsent_->bytes.size() < kBatch); }

void Connection::add_got() {
  if (waits_for_more()) return;
  while (std::ssize(answered_) > kMostGot) {
    append_got({answered_.end() - kMostGot, answered_.end()}, nobody());
    answered_.resize(answered_.size() - static_cast<size_t>(kMostGot));
  }
  append_got(std::exchange(answered_, {}), std::make_shared<Got>(std::exchange(taken_, {})));
}

void Connection::append_got(const std::vector<uint64_t>& numbers, std::shared_ptr<Asked> asked) {
  Packer packer;
  packer.array(2).add("got").add(numbers);
  (void)append(packer.bytes(), std::move(asked), {session_}, {});
}

void Connection::send(uint64_t first, size_t number, std::string_view requests) {
  Packer head;
  head.array(4).add(Bin{id_}).add(floor()).add(first).array(number);
  dealer_->send(kProtocol, head.bytes(), requests);
  ++on_their_way_;
  last_sent_ = Clock::now();
  if (!silent_since_) silent_since_ = waits_since_ = last_sent_;
}

bool Connection::receive() {
  bool any = false;
  while (dealer_) {
    auto message = dealer_->receive(kProtocol);
    if (!message) break;
    hear(*message);
    any = true;
  }
  if (any) wake();
  return any;
}

// A message that is none of the protocol's is as none.
void Connection::hear(std::string_view bytes) {
  auto unpacked = unpack(bytes);
  if (!unpacked) return;
  auto message = std::make_shared<const msgpack::object_handle>(std::move(*unpacked));
  const msgpack::object& all = message->get();
  Bin id;
  if (all.type != msgpack::type::ARRAY || all.via.array.size < 3) return;
  const msgpack::object* parts = all.via.array.ptr;
  uint64_t incarnation = 0;
  if (!decode(parts[0], id) || id.data != id_ || !decode(parts[1], incarnation)) return;
  if (std::exchange(incarnation_, incarnation) != incarnation && heard_) ++life_;
  heard_ = true;
  silent_since_ = waits_since_ = std::nullopt;
  pause_ = kFirstPause;
  on_their_way_ = 0;
  if (parts[2].is_nil()) return end_session(all.via.array.size == 4 ? lost("the session has ended (" + error_of(parts[3]).what + ")") : lost("the session has ended"));
  if (parts[2].type != msgpack::type::ARRAY) return;
  for (const msgpack::object& answer : parts[2].via.array)
    if (!hear_answer(message, answer)) return;
}

// False: the session is over.
bool Connection::hear_answer(const std::shared_ptr<const msgpack::object_handle>& message, const msgpack::object& answer) {
  uint64_t number = 0;
  if (answer.type != msgpack::type::ARRAY || answer.via.array.size != 3 || !decode(answer.via.array.ptr[0], number)) return true;
  Open open = close(number);
  if (!open.asked) return true;
  if (!open.manner.waited_for) --unattended_;
  if (open.manner.windowed) window_ -= open.length;
  const msgpack::object& error = answer.via.array.ptr[1];
  Object result{message, &answer.via.array.ptr[2], life_};
  using Then = Asked::Then;
  Then then = error.is_nil() && !result.object->is_nil() ? open.asked->look(*result.object) : Then::kTell;
  if (then == Then::kDecideLater) undecided_.insert(number);
  else if (number > floor()) answered_.push_back(number);
  if (!answered_.empty() && number < floor()) std::erase_if(answered_, [&](uint64_t one) { return one < floor(); });
  if (!error.is_nil()) open.asked->fail(error_of(error));
  else if (then == Then::kConfirm) taken_.emplace_back(std::move(open.asked), std::move(result));
  else open.asked->tell(result);
  return !is_over_;
}

// The request has its answer; asked is null if it had before, or was not sent.
Connection::Open Connection::close(uint64_t number) {
  auto it = open_.upper_bound(number);
  if (it == open_.begin() || number >= first_unsent()) return {};
  auto& [first, batch] = *--it;
  if (number - first >= batch.requests.size()) return {};
  Open open = std::move(batch.requests[number - first]);
  while (batch.answered < batch.requests.size() && !batch.requests[batch.answered].asked) ++batch.answered;
  if (batch.answered == batch.requests.size()) open_.erase(it);
  return open;
}

uint64_t Connection::floor() const {
  uint64_t lowest = open_.empty() ? next_ : open_.begin()->first + open_.begin()->second.answered;
  return undecided_.empty() ? lowest : std::min(lowest, *undecided_.begin());
}

// Those who wait, and whose condition holds by now.
void Connection::wake() {
  for (Follower* follower : followers_)
    if (follower->over()) follower->changed.notify_one();
  if (attendant_ && attendant_thread_ != std::this_thread::get_id() && (*attendant_)()) nudge();
}

void Connection::nudge() {
  uint64_t one = 1;
  (void)!::write(nudge_.get(), &one, sizeof one);
}

// ---- Time

void Connection::tick(Clock::time_point now) {
  next_tick_ = now + kTick;
  if (is_over_) return;
  if (look_at_events()) return;
  if (waits_since_ && now - *waits_since_ >= pause_) {
    if (now - *silent_since_ >= (heard_ ? kPatience : kFirstPatience))
      return end_session(heard_ ? lost(key_.address + " does not answer")
                                : make_error(std::errc::host_unreachable, key_.address + " does not answer; see that the node there runs with --clients, and the way to it"));
    pause_ = std::min(2 * pause_, kLastPause);
    return send_again();
  }
  if (now - last_sent_ >= kHeartbeat) send(first_unsent(), 0, {});
}

// What was lost with a connection is not waited for. Whether anything was done.
bool Connection::look_at_events() {
  if (!dealer_) return false;
  auto events = dealer_->events();
  if (events.refused) return end_session(unknown_key()), true;
  if (!events.lost || Clock::now() - connected_ < kReconnect) return false;
  if (!silent_since_) silent_since_ = Clock::now();
  return send_again(), true;
}

// Every request without an answer, over a new socket; in runs without a gap.
void Connection::send_again() {
  auto dealer = Dealer::connect(*all().context, key_);
  if (!dealer) return;  // at the next tick
  dealer_ = std::move(*dealer);
  connected_ = Clock::now();
  if (open_.empty() || &open_.begin()->second == unsent_) send(first_unsent(), 0, {});
  for (auto& [first, batch] : open_)
    if (&batch != unsent_) send_again(first, batch);
  waits_since_ = Clock::now();
  if (attendant_) nudge();
}

void Connection::send_again(uint64_t first, const Batch& batch) {
  std::string_view rest = batch.bytes;
  const auto& requests = batch.requests;
  for (auto open = requests.begin(); open != requests.end();) {
    auto begin = open;
    size_t length = 0;
    for (; open != requests.end() && open->asked; ++open) length += open->length;
    if (open != begin) send(first + static_cast<size_t>(begin - requests.begin()), static_cast<size_t>(open - begin), rest.substr(0, length));
    rest.remove_prefix(length);
    for (; open != requests.end() && !open->asked; ++open) rest.remove_prefix(open->length);
  }
}

void Connection::end_session(const Error& error) {
  is_over_ = true;
  dealer_.reset();
  auto open = std::exchange(open_, {});
  auto taken = std::exchange(taken_, {});
  unsent_ = nullptr;
  on_their_way_ = window_ = unattended_ = 0;
  answered_.clear();
  undecided_.clear();
  silent_since_ = waits_since_ = std::nullopt;
  pause_ = kFirstPause;
  for (auto& [first, batch] : open)
    for (Open& one : batch.requests)
      if (one.asked) one.asked->fail(error);
  for (auto& [asked, result] : taken) asked->fail(error);
  wake();
  if (attendant_) nudge();
}

}  // namespace godwit::remote
