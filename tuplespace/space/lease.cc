// Leases, over the store that a space stands on.
#include <unistd.h>

#include "tuplespace/space/backend.hh"
#include "tuplespace/space/thrown.hh"
#include "tuplespace/space/tuple_check.hh"
#include "tuplespace/store/store.hh"
#include "tuplespace/space.hh"

namespace godwit {
namespace {

store::Store& store_of(Backend& backend) {
  if (store::Store* store = backend.store()) return *store;
  throw Failure(make_error(std::errc::operation_not_supported, "leases are of spaces in this host's memory, outside transactions; name one of those"));
}

store::Delivery delivery_of(DeliveryRef ref) { return {ref.lease, ref.stripe, ref.number}; }

void expect_in_time(Result<bool> done) {
  if (!value_of(std::move(done)))
    throw Failure(make_error(std::errc::timed_out, "the lease is over, and the tuple back or another's; lease it for longer, or extend it in time"));
}

}  // namespace

void Space::put_for(std::chrono::nanoseconds time, TupleView tuple) {
  check_tuple(tuple);
  Wait wait;
  value_of(store_of(*backend_).out_for(time, tuple, &wait));
}

std::optional<DeliveryRef> Space::take_for(std::chrono::nanoseconds time, AnyOf any_of, const Wait* wait, const Receive& receive) {
  auto delivery = store_of(*backend_).in_for(time, any_of, wait, receive);
  if (!in_time(delivery) || !*delivery) return std::nullopt;
  return DeliveryRef{(*delivery)->lease, (*delivery)->stripe, (*delivery)->number};
}

Lease::Lease(std::shared_ptr<Backend> backend, DeliveryRef ref) : backend_(std::move(backend)), ref_(ref), pid_(getpid()) {}
Lease::Lease(Lease&& other) noexcept = default;
Lease& Lease::operator=(Lease&& other) noexcept {
  std::swap(backend_, other.backend_);
  std::swap(ref_, other.ref_);
  std::swap(pid_, other.pid_);
  return *this;
}
Lease::~Lease() {
  if (backend_ && getpid() == pid_) (void)backend_->store()->release(delivery_of(ref_), {});
}

void Lease::acknowledge() {
  if (auto backend = std::move(backend_)) return expect_in_time(backend->store()->acknowledge(delivery_of(ref_)));
  expect_in_time(false);
}
void Lease::release(std::chrono::nanoseconds delay) {
  if (auto backend = std::move(backend_)) return expect_in_time(backend->store()->release(delivery_of(ref_), delay));
  expect_in_time(false);
}
void Lease::extend(std::chrono::nanoseconds time) {
  if (!backend_) return expect_in_time(false);
  expect_in_time(backend_->store()->extend(delivery_of(ref_), time));
}

}  // namespace godwit
