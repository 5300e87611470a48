#include "tuplespace/remote/remote_backend.hh"

#include <array>
#include <atomic>
#include <deque>

#include "tuplespace/remote/messages.hh"
#include "tuplespace/remote/remote_undertaking.hh"
#include "tuplespace/space/evals.hh"

namespace godwit::remote {
namespace {

const std::stop_token kNoStop;
const std::stop_token& stop_of(const Wait* wait) { return wait ? wait->stop : kNoStop; }

Error too_late() { return make_error(std::errc::timed_out, "no such tuple came in time; inp and rdp look without waiting"); }

class RemotePutting final : public Putting, public Asked {
 public:
  /// Of a thread's own, many in one piece of memory.
  static std::shared_ptr<RemotePutting> make(Connection& connection) {
    struct Block {
      std::array<RemotePutting, 64> all;
      size_t used = 0;
    };
    static thread_local std::shared_ptr<Block> block;
    if (!block || block->used == block->all.size()) block = std::make_shared<Block>();
    RemotePutting& made = block->all[block->used++];
    made.connection_ = &connection;
    return {block, &made};
  }
  void tell(const Object&) override { is_done_.store(true, std::memory_order_release); }
  void fail(const Error& error) override {
    error_ = std::make_unique<Error>(error);
    is_done_.store(true, std::memory_order_release);
  }
  bool is_ready() override { return is_done_.load(std::memory_order_acquire); }
  Result<bool> get(const Wait& wait) override {
    if (!is_ready() && !connection_->wait_until([this] { return is_ready(); }, wait)) return false;
    if (error_) return *error_;
    return true;
  }

 private:
  Connection* connection_ = nullptr;
  std::atomic<bool> is_done_ = false;
  std::unique_ptr<Error> error_;  // before is_done_
};

class Unheeded final : public Asked {
 public:
  void tell(const Object&) override {}
  void fail(const Error&) override {}
};

// Fetches what has come, all at once, and shows it one by one.
class RemoteWatcher final : public Watcher {
 public:
  RemoteWatcher(Connection& connection, uint64_t life, uint64_t watch)
      : connection_(connection), life_(life), watch_(watch), pid_(getpid()) {}
  ~RemoteWatcher() override {
    if (getpid() == pid_) connection_.begin(request("unwatch", watch_), std::make_shared<Unheeded>(), life_);
  }
  Result<bool> next(const Wait* wait, const Show& show) override {
    if (getpid() != pid_) return make_error(std::errc::identifier_removed, "a subscription is of the process that made it; subscribe in this one");
    if (come_.empty())
      if (auto fetched = fetch(wait); !fetched || !*fetched) return fetched;
    show(views_of(come_.front()));
    come_.pop_front();
    return true;
  }
  uint64_t missed() const override { return missed_; }

 private:
  Result<bool> fetch(const Wait* wait) {
    auto answer = connection_.ask(request("next", watch_, until(wait)), stop_of(wait), life_);
    if (!answer) return answer.error();
    const msgpack::object& result = *answer->result.object;
    if (result.is_nil() && wait) return too_late();
    if (result.is_nil()) return false;
    std::array<msgpack::object, 2> parts;
    std::vector<Tuple> tuples;
    if (!decode(result, parts) || !decode(parts[0], missed_) || !decode(parts[1], tuples) || tuples.empty()) return unexpected();
    come_.assign(std::make_move_iterator(tuples.begin()), std::make_move_iterator(tuples.end()));
    return true;
  }

  Connection& connection_;
  const uint64_t life_, watch_;
  const int pid_;
  std::deque<Tuple> come_;
  uint64_t missed_ = 0;
};

}  // namespace

Result<void> expect_room(const Result<Answered>& answer) {
  if (!answer) return answer.error();
  auto put = read<bool>(*answer->result.object);
  if (!put) return put.error();
  if (!*put) return make_error(std::errc::timed_out, "there was no room in time; take tuples, or wait longer");
  return {};
}

Result<bool> show(const msgpack::object& result, const Wait* wait, const Backend::Receive& receive) {
  if (result.is_nil() && wait) return too_late();
  if (result.is_nil()) return false;
  Tuple tuple;
  if (!decode(result, tuple)) return unexpected();
  return receive(views_of(tuple));
}

Result<Answered> RemoteBackend::ask(const Packed& packed, const std::stop_token& stop, uint64_t life) const {
  auto connection = link_.connection();
  if (!connection) return connection.error();
  return (*connection)->ask(packed, stop, life);
}

namespace {
Packed out_request(std::string_view space, TupleView tuple, Milliseconds time, Milliseconds wait) {
  size_t bytes = 32 + space.size();
  for (const FieldView& field : tuple) bytes += 9 + field.text.size();
  Packer packer(bytes);
  packer.array(5).add("out").add(space).array(1);
  godwit::add(packer, tuple);
  add(packer, time);
  add(packer, wait);
  return packer.take();
}
}  // namespace

Result<void> RemoteBackend::out(TupleView tuple, const Wait& wait) {
  if (auto no = refused(tuple)) return *no;
  return expect_room(ask(out_request(name_, tuple, {}, until(&wait)), wait.stop));
}

Result<void> RemoteBackend::out_for(Time time, TupleView tuple, const Wait& wait) {
  if (auto no = refused(tuple)) return *no;
  return expect_room(ask(out_request(name_, tuple, milliseconds(time), until(&wait)), wait.stop));
}

Result<std::shared_ptr<Putting>> RemoteBackend::begin_out(TupleView tuple) {
  if (auto no = refused(tuple)) return *no;
  auto connection = link_.connection();
  if (!connection) return connection.error();
  auto putting = RemotePutting::make(**connection);
  (*connection)->begin(out_request(name_, tuple, {}, {}), putting, 0, true);
  return std::shared_ptr<Putting>(std::move(putting));
}

Result<void> RemoteBackend::out_all(std::span<const Tuple> tuples, const Wait* wait) {
  Packer packer;
  if (tuples.size() > 4096) return make_error(std::errc::message_size, "at most 4096 tuples are put at one moment; put fewer");
  packer.array(5).add("out").add(name_).array(tuples.size());
  for (const Tuple& tuple : tuples) {
    auto views = views_of(tuple);
    if (auto no = refused(TupleView(views))) return *no;
    godwit::add(packer, views);
  }
  packer.add(nullptr);
  add(packer, until(wait));
  return expect_room(ask(packer.bytes(), stop_of(wait)));
}

Result<bool> RemoteBackend::out_if(bool instead, AnyOf any_of, TupleView tuple) {
  if (auto no = refused(any_of)) return *no;
  if (auto no = refused(tuple)) return *no;
  auto answer = ask(request(instead ? "swap" : "unique", name_, any_of, tuple));
  if (!answer) return answer.error();
  return read<bool>(*answer->result.object);
}

Result<bool> RemoteBackend::in(AnyOf any_of, const Wait* wait, const Receive& receive) {
  if (auto no = refused(any_of)) return *no;
  auto connection = link_.connection();
  if (!connection) return connection.error();
  auto answer = (*connection)->take(request("in", name_, any_of, until(wait)), stop_of(wait));
  if (!answer) return answer.error();
  auto received = show(*answer->result.object, wait, receive);
  if (answer->result.object->is_nil()) return received;
  if (!received || !*received) {
    auto back = (*connection)->put_back(answer->number);
    return back ? received : back.error();
  }
  if (auto confirmed = (*connection)->confirm(answer->number); !confirmed) return confirmed.error();
  return true;
}

Result<bool> RemoteBackend::rd(AnyOf any_of, const Wait* wait, const Receive& receive) {
  if (auto no = refused(any_of)) return *no;
  auto answer = ask(request("rd", name_, any_of, until(wait)), stop_of(wait));
  if (!answer) return answer.error();
  return show(*answer->result.object, wait, receive);
}

Result<uint64_t> RemoteBackend::count(AnyOf any_of) {
  if (auto no = refused(any_of)) return *no;
  auto answer = ask(request("count", name_, any_of));
  if (!answer) return answer.error();
  return read<uint64_t>(*answer->result.object);
}

Result<std::vector<Tuple>> RemoteBackend::all(AnyOf any_of) {
  if (auto no = refused(any_of)) return *no;
  auto answer = ask(request("all", name_, any_of));
  if (!answer) return answer.error();
  return read<std::vector<Tuple>>(*answer->result.object);
}

Result<uint64_t> RemoteBackend::collect(Backend& to, AnyOf any_of, bool copies) {
  if (auto no = refused(any_of)) return *no;
  auto* other = dynamic_cast<RemoteBackend*>(&to);
  if (!other || other->link_.key_file() != link_.key_file())
    return make_error(std::errc::operation_not_supported, "tuples are collected into another space of the same host; open both with the same key");
  auto answer = ask(request(copies ? "copy_collect" : "collect", name_, other->name_, any_of));
  if (!answer) return answer.error();
  return read<uint64_t>(*answer->result.object);
}

Result<std::unique_ptr<Watcher>> RemoteBackend::watch(AnyOf any_of) {
  if (auto no = refused(any_of)) return *no;
  auto connection = link_.connection();
  if (!connection) return connection.error();
  auto answer = (*connection)->ask(request("watch", name_, any_of));
  if (!answer) return answer.error();
  auto watch = read<uint64_t>(*answer->result.object);
  if (!watch) return watch.error();
  return std::unique_ptr<Watcher>(std::make_unique<RemoteWatcher>(**connection, answer->result.life, *watch));
}

Result<std::shared_ptr<Backend>> RemoteBackend::evals() {
  std::string name = evals_name(name_);
  auto there = ask(request("count", name, AnyOf()));
  if (!there && there.error().code == std::errc::no_such_file_or_directory) {
    auto made = ask(request("create", name, Raw{pack_map()}));
    if (!made && made.error().code != std::errc::file_exists) return made.error();
  }
  return std::shared_ptr<Backend>(std::make_shared<RemoteBackend>(link_, name));
}

Result<std::shared_ptr<Undertaking>> RemoteBackend::undertake() { return begin_undertaking(link_); }

// ---- Leases

Result<std::optional<DeliveryRef>> RemoteBackend::in_for(Time time, AnyOf any_of, const Wait* wait, const Receive& receive) {
  if (auto no = refused(any_of)) return *no;
  auto answer = ask(request("lease", name_, any_of, until(wait), milliseconds(time)), stop_of(wait));
  if (!answer) return answer.error();
  const msgpack::object& result = *answer->result.object;
  if (result.is_nil() && wait) return too_late();
  if (result.is_nil()) return std::optional<DeliveryRef>();
  std::array<msgpack::object, 2> parts;
  DeliveryRef ref{static_cast<uint32_t>(answer->result.life), 0, 0};
  if (!decode(result, parts) || !decode(parts[1], ref.number)) return unexpected();
  auto received = show(parts[0], wait, receive);
  if (received && *received) return std::optional(ref);
  if (auto back = release(ref, {}); !back) return back.error();
  if (!received) return received.error();
  return std::optional<DeliveryRef>();
}

// Its leases have ended with a life.
Result<bool> RemoteBackend::ask_lease(const Packed& packed, const DeliveryRef& ref) const {
  auto connection = link_.connection();
  if (!connection) return connection.error();
  if (!(*connection)->is_alive(ref.lease)) return false;
  auto answer = ask(packed, {}, ref.lease);
  if (!answer) return answer.error();
  return read<bool>(*answer->result.object);
}
Result<bool> RemoteBackend::acknowledge(const DeliveryRef& ref) { return ask_lease(request("acknowledge", ref.number), ref); }
Result<bool> RemoteBackend::release(const DeliveryRef& ref, Time delay) {
  return ask_lease(request("release", ref.number, milliseconds(delay)), ref);
}
Result<bool> RemoteBackend::extend(const DeliveryRef& ref, Time time) {
  return ask_lease(request("extend", ref.number, milliseconds(time)), ref);
}

}  // namespace godwit::remote
