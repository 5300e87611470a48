#include "tuplespace/remote/remote_undertaking.hh"

#include "tuplespace/remote/messages.hh"
#include "tuplespace/remote/remote_backend.hh"

namespace godwit::remote {
namespace {

class RemoteUndertaking final : public Undertaking, public std::enable_shared_from_this<RemoteUndertaking> {
 public:
  explicit RemoteUndertaking(const Link& link) : link_(link), pid_(getpid()), thread_(std::this_thread::get_id()) {}
  ~RemoteUndertaking() override {
    if (life_ != 0 && getpid() == pid_) (void)ask_within(request("close", number_), {});
  }

  // The end of a life has rolled it back. The next operation begins it anew.
  Result<Answered> ask(const Packed& packed, const std::stop_token& stop) {
    if (auto no = not_ours()) return *no;
    auto open = begin();
    if (!open) return open.error();
    return ask_within(request("within", number_, Raw{packed}), stop);
  }
  Result<void> begin() {
    if (life_ != 0) return {};
    auto connection = link_.connection();
    if (!connection) return connection.error();
    auto answer = (*connection)->ask(request("begin"));
    if (!answer) return answer.error();
    auto number = read<uint64_t>(*answer->result.object);
    if (!number) return number.error();
    number_ = *number;
    life_ = answer->result.life;
    return {};
  }

  Result<std::shared_ptr<Backend>> of(Backend& space) override;
  Result<void> commit() override { return conclude("commit"); }
  Result<void> roll_back() override {
    if (life_ == 0) return {};
    return conclude("roll_back");
  }
  const Link& link() const { return link_; }

 private:
  std::optional<Error> not_ours() const {
    if (getpid() == pid_ && std::this_thread::get_id() == thread_) return std::nullopt;
    return make_error(std::errc::operation_not_permitted, "a transaction is for the thread that made it; make one in each");
  }
  Result<void> conclude(const char* how) {
    if (auto no = not_ours()) return *no;
    auto answer = ask_within(request(how, number_), {});
    if (!answer) return answer.error();
    return {};
  }
  Result<Answered> ask_within(const Packed& packed, const std::stop_token& stop) {
    auto connection = link_.connection();
    if (!connection) return connection.error();
    if (life_ == 0) return make_error(std::errc::connection_reset, "the transaction has ended with its session; begin it anew");
    auto answer = (*connection)->ask(packed, stop, life_);
    if (!(*connection)->is_alive(life_)) life_ = 0;
    return answer;
  }

  const Link link_;
  const int pid_;
  const std::thread::id thread_;
  uint64_t life_ = 0, number_ = 0;  // life 0: it is to be begun
};

class TransactingBackend final : public Backend {
 public:
  TransactingBackend(std::shared_ptr<RemoteUndertaking> undertaking, std::string name)
      : undertaking_(std::move(undertaking)), name_(std::move(name)) {}

  Result<void> out(TupleView tuple, const Wait& wait) override {
    if (auto no = refused(tuple)) return *no;
    Packer packer;
    packer.array(5).add("out").add(name_).array(1);
    godwit::add(packer, tuple);
    packer.add(nullptr).add(0);
    return expect_room(undertaking_->ask(packer.bytes(), wait.stop));
  }
  Result<bool> in(AnyOf any_of, const Wait* wait, const Receive& receive) override { return get("in", any_of, wait, receive); }
  Result<bool> rd(AnyOf any_of, const Wait* wait, const Receive& receive) override { return get("rd", any_of, wait, receive); }
  Result<uint64_t> count(AnyOf any_of) override {
    if (auto no = refused(any_of)) return *no;
    auto answer = undertaking_->ask(request("count", name_, any_of), {});
    if (!answer) return answer.error();
    return read<uint64_t>(*answer->result.object);
  }
  Result<bool> out_if(bool, AnyOf, TupleView) override { return not_within(); }
  Result<void> out_all(std::span<const Tuple>, const Wait*) override { return not_within(); }
  Result<std::vector<Tuple>> all(AnyOf) override { return not_within(); }
  Result<uint64_t> collect(Backend&, AnyOf, bool) override { return not_within(); }
  Result<std::unique_ptr<Watcher>> watch(AnyOf) override { return not_within(); }

 private:
  Result<bool> get(const char* verb, AnyOf any_of, const Wait* wait, const Receive& receive) {
    if (auto no = refused(any_of)) return *no;
    auto answer = undertaking_->ask(request(verb, name_, any_of, until(wait)), wait ? wait->stop : std::stop_token());
    if (!answer) return answer.error();
    return show(*answer->result.object, wait, receive);
  }

  std::shared_ptr<RemoteUndertaking> undertaking_;
  const std::string name_;
};

Result<std::shared_ptr<Backend>> RemoteUndertaking::of(Backend& space) {
  auto* remote = dynamic_cast<RemoteBackend*>(&space);
  if (!remote || remote->link().key_file() != link_.key_file())
    return make_error(std::errc::operation_not_supported, "a transaction is of spaces that hold tuples on its own host; name one of those");
  return std::shared_ptr<Backend>(std::make_shared<TransactingBackend>(shared_from_this(), remote->name()));
}

}  // namespace

Result<std::shared_ptr<Undertaking>> begin_undertaking(const Link& link) {
  auto made = std::make_shared<RemoteUndertaking>(link);
  if (auto begun = made->begin(); !begun) return begun.error();
  return std::shared_ptr<Undertaking>(std::move(made));
}

}  // namespace godwit::remote
