// The public Transaction: the store's (store/transactions.hh), and spaces as it sees them.
#include "tuplespace/space/host_spaces.hh"
#include "tuplespace/space/local.hh"
#include "tuplespace/space/thrown.hh"
#include "tuplespace/store/errors.hh"
#include "tuplespace/store/store.hh"
#include "tuplespace/transaction.hh"

namespace godwit {
namespace {

// A transaction of a thread, while that lives.
class LocalUndertaking final : public Undertaking, public std::enable_shared_from_this<LocalUndertaking> {
 public:
  LocalUndertaking(std::shared_ptr<Host> host, uint32_t owner, store::Transaction& record)
      : host_(std::move(host)), owner_(owner), record_(record) {}
  ~LocalUndertaking() override {
    if (auto desk = own_desk()) store::end_transaction(**desk, *(*desk)->bench, record_);
  }

  Result<std::shared_ptr<Backend>> of(Backend& space) override;
  Result<void> commit() override {
    auto open = record();
    if (!open) return open.error();
    return store::Store::commit(host_->segment(), **open);
  }
  /// The record, open.
  /// errors  operation_not_permitted: of another thread; no_space_on_device: what was to go back cannot yet.
  Result<store::Transaction*> record() {
    auto desk = own_desk();
    if (!desk) return desk.error();
    if (record_.progress != store::Progress::kOpen && !store::conclude(**desk, record_)) return store::segment_full();
    return &record_;
  }
  Result<void> roll_back() override {
    auto desk = own_desk();
    if (!desk) return desk.error();
    if (!store::conclude(**desk, record_)) return store::segment_full();
    return {};
  }

 private:
  Result<store::Desk*> own_desk() const {
    auto desk = store::Desk::of(host_->segment());
    if (!desk || (*desk)->owner() == owner_) return desk;
    return make_error(std::errc::operation_not_permitted, "a transaction is for the thread that made it; make one in each");
  }

  std::shared_ptr<Host> host_;
  const uint32_t owner_;
  store::Transaction& record_;  // in the segment; its thread's
};

class TransactingBackend final : public Backend {
 public:
  TransactingBackend(std::shared_ptr<LocalUndertaking> undertaking, store::Store store)
      : undertaking_(std::move(undertaking)), store_(std::move(store)) {}

  Result<void> out(TupleView tuple, const Wait&) override {
    return within<void>([&](store::Transaction& record) { return store_.out_within(record, tuple); });
  }
  // Others may put one before the commit: so it cannot be promised.
  Result<bool> out_if(bool, AnyOf, TupleView) override { return not_within(); }
  Result<void> out_all(std::span<const Tuple>, const Wait*) override { return not_within(); }
  Result<bool> in(AnyOf any_of, const Wait* wait, const Receive& receive) override {
    return within<bool>([&](store::Transaction& record) { return store_.in_within(record, any_of, wait, receive); });
  }
  Result<bool> rd(AnyOf any_of, const Wait* wait, const Receive& receive) override {
    return within<bool>([&](store::Transaction& record) { return store_.rd_within(record, any_of, wait, receive); });
  }
  Result<uint64_t> count(AnyOf any_of) override {
    return within<uint64_t>([&](store::Transaction& record) { return store_.count_within(record, any_of); });
  }
  Result<std::vector<Tuple>> all(AnyOf) override { return not_within(); }
  Result<uint64_t> collect(Backend&, AnyOf, bool) override { return not_within(); }
  Result<std::unique_ptr<Watcher>> watch(AnyOf) override { return not_within(); }
  Result<std::shared_ptr<Backend>> evals() override { return not_within(); }

 private:
  template <class T, class F>
  Result<T> within(F f) {
    auto record = undertaking_->record();
    if (!record) return record.error();
    return f(**record);
  }

  std::shared_ptr<LocalUndertaking> undertaking_;
  store::Store store_;
};

Result<std::shared_ptr<Backend>> LocalUndertaking::of(Backend& space) {
  store::Store* store = space.store();
  if (!store || store->segment().base() != host_->segment().base())
    return make_error(std::errc::operation_not_supported, "a transaction is of spaces that hold tuples on its own host; name one of those");
  return std::shared_ptr<Backend>(std::make_shared<TransactingBackend>(shared_from_this(), *store));
}

}  // namespace

Result<std::shared_ptr<Undertaking>> begin_undertaking(std::shared_ptr<Host> host) {
  auto desk = store::Desk::of(host->segment());
  if (!desk) return desk.error();
  store::Transaction* record = store::begin_transaction(**desk);
  if (!record) return store::segment_full();
  return std::shared_ptr<Undertaking>(std::make_shared<LocalUndertaking>(std::move(host), (*desk)->owner(), *record));
}

Result<std::shared_ptr<Undertaking>> Backend::undertake() {
  return make_error(std::errc::operation_not_supported, "a transaction is of spaces that hold tuples; name one of those");
}

Transaction::Transaction(const std::string& home) : undertaking_(value_of(value_of(HostSpaces::of(home))->begin())) {}
Transaction::Transaction(const Space& space) : undertaking_(value_of(space.backend().undertake())) {}
Transaction::Transaction(Transaction&&) noexcept = default;
Transaction& Transaction::operator=(Transaction&& other) noexcept {
  if (undertaking_) (void)undertaking_->roll_back();
  undertaking_ = std::move(other.undertaking_);
  return *this;
}
Transaction::~Transaction() {
  if (undertaking_) (void)undertaking_->roll_back();
}

Space Transaction::of(const Space& space) { return Space(value_of(undertaking_->of(space.backend()))); }

void Transaction::commit() { value_of(undertaking_->commit()); }

void Transaction::roll_back() { value_of(undertaking_->roll_back()); }

}  // namespace godwit
