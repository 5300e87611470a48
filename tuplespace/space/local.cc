#include "tuplespace/space/local.hh"

#include "tuplespace/space/evals.hh"
#include "tuplespace/space/requests.hh"
#include "tuplespace/store/store.hh"
#include "tuplespace/streams/spaces.hh"

namespace godwit {
namespace {

class LocalWatcher final : public Watcher {
 public:
  LocalWatcher(store::Store store, store::Watching watching) : store_(std::move(store)), watching_(watching) {}
  ~LocalWatcher() override { store_.end_watch(watching_); }
  Result<bool> next(const Wait* wait, const Show& show) override { return store_.next(watching_, wait, show); }
  uint64_t missed() const override { return watching_.missed; }

 private:
  store::Store store_;
  store::Watching watching_;
};

class LocalLeases final : public Leases {
 public:
  explicit LocalLeases(store::Store& store) : store_(store) {}
  Result<void> out_for(Time time, TupleView tuple, const Wait& wait) override { return store_.out_for(time, tuple, &wait); }
  Result<std::optional<DeliveryRef>> in_for(Time time, std::span<const TemplateView> any_of, const Wait* wait,
                                            const std::function<bool(TupleView)>& receive) override {
    auto delivery = store_.in_for(time, any_of, wait, receive);
    if (!delivery) return delivery.error();
    if (!*delivery) return std::optional<DeliveryRef>();
    return std::optional(DeliveryRef{(*delivery)->lease, (*delivery)->stripe, (*delivery)->number});
  }
  Result<bool> acknowledge(const DeliveryRef& ref) override { return store_.acknowledge(delivery_of(ref)); }
  Result<bool> release(const DeliveryRef& ref, Time delay) override { return store_.release(delivery_of(ref), delay); }
  Result<bool> extend(const DeliveryRef& ref, Time time) override { return store_.extend(delivery_of(ref), time); }

 private:
  static store::Delivery delivery_of(const DeliveryRef& ref) { return {ref.lease, ref.stripe, ref.number}; }
  store::Store& store_;
};

class LocalBackend final : public Backend {
 public:
  LocalBackend(std::shared_ptr<Host> host, std::string_view name, store::Store store)
      : host_(std::move(host)), name_(name), store_(std::move(store)) {}

  Result<void> out(TupleView tuple, const Wait& wait) override { return store_.out(tuple, &wait); }
  Result<void> out_all(std::span<const Tuple> tuples, const Wait* wait) override { return store_.out_all(tuples, wait); }
  Result<bool> out_if(bool instead, AnyOf any_of, TupleView tuple) override {
    using Condition = store::Store::Condition;
    return store_.out_if(instead ? Condition::kInstead : Condition::kUnless, any_of, tuple);
  }
  Result<bool> in(AnyOf any_of, const Wait* wait, const Receive& receive) override { return store_.in(any_of, wait, receive); }
  Result<bool> rd(AnyOf any_of, const Wait* wait, const Receive& receive) override { return store_.rd(any_of, wait, receive); }
  Result<uint64_t> count(AnyOf any_of) override { return store_.count(any_of); }
  Result<std::unique_ptr<Watcher>> watch(AnyOf any_of) override {
    auto watching = store_.watch(any_of);
    if (!watching) return watching.error();
    return std::unique_ptr<Watcher>(std::make_unique<LocalWatcher>(store_, *watching));
  }
  Result<std::vector<Tuple>> all(AnyOf any_of) override { return store_.all(any_of); }
  Result<uint64_t> collect(Backend& to, AnyOf any_of, bool copies) override {
    store::Store* other = to.store();
    if (!other || other->segment().base() != store_.segment().base())
      return make_error(std::errc::operation_not_supported, "tuples are collected into another space of the same host; name one of those that godwit spaces lists");
    return copies ? store_.copy_collect(*other, any_of) : store_.collect(*other, any_of);
  }
  Result<std::shared_ptr<Backend>> evals() override {
    auto there = local_backend(host_, evals_name(name_));
    if (there || there.error().code != std::errc::no_such_file_or_directory) return there;
    auto made = create_space(*host_, evals_name(name_), {});
    if (!made && made.error().code != std::errc::file_exists) return made.error();
    return local_backend(host_, evals_name(name_));
  }
  Result<std::shared_ptr<Undertaking>> undertake() override { return begin_undertaking(host_); }
  store::Store* store() override { return &store_; }
  Leases* leases() override { return &leases_; }
  std::unique_ptr<Server> server(std::shared_ptr<Backend> self) override { return store_server(std::move(self)); }

 private:
  std::shared_ptr<Host> host_;
  const std::string name_;
  store::Store store_;
  LocalLeases leases_{store_};
};

std::optional<Error> own(std::string_view name) {
  if (!is_own_space(name)) return std::nullopt;
  return make_error(std::errc::invalid_argument, "names that begin with a dot are of Godwit's own spaces; choose another");
}

// net is no space of the store, so that nobody takes one for the other.
std::optional<Error> reserved(std::string_view name) {
  if (name != kNetSpace) return own(name);
  return make_error(std::errc::invalid_argument, "net is the socket traffic, always there; choose another name");
}

}  // namespace

Result<std::shared_ptr<Backend>> local_backend(std::shared_ptr<Host> host, std::string_view name) {
  if (auto no = own(name)) return *no;
  auto store = store::Store::open(host->segment(), name);
  if (!store) return store.error();
  return std::shared_ptr<Backend>(std::make_shared<LocalBackend>(std::move(host), name, std::move(*store)));
}

Result<void> create_space(Host& host, std::string_view name, const SpaceOptions& options) {
  if (auto no = reserved(name)) return *no;
  auto made = store::Store::create(host.segment(), name, options);
  if (!made) return made.error();
  return {};
}

Result<void> drop_space(Host& host, std::string_view name) {
  if (auto no = reserved(name)) return *no;
  auto desk = store::Desk::of(host.segment());
  if (!desk) return desk.error();
  auto dropped = store::drop_space(**desk, name);
  if (dropped) (void)store::drop_space(**desk, evals_name(name));  // most spaces have none
  return dropped;
}

Result<std::vector<SpaceFacts>> list_spaces(Host& host) {
  auto desk = store::Desk::of(host.segment());
  if (!desk) return desk.error();
  auto all = store::list_spaces(**desk);
  std::erase_if(all, [](const SpaceFacts& space) { return is_own_space(space.name); });
  return all;
}

Result<std::vector<store::WaitFacts>> list_waits(Host& host) {
  auto desk = store::Desk::of(host.segment());
  if (!desk) return desk.error();
  auto all = store::list_waits(**desk);
  std::erase_if(all, [](const store::WaitFacts& wait) { return is_own_space(wait.space); });
  return all;
}

}  // namespace godwit
