// Leases of a space.
#include <unistd.h>

#include "tuplespace/space/backend.hh"
#include "tuplespace/space/thrown.hh"
#include "tuplespace/space/tuple_check.hh"
#include "tuplespace/space.hh"

namespace godwit {
namespace {

Leases& leases_of(Backend& backend) {
  if (Leases* leases = backend.leases()) return *leases;
  throw Failure(make_error(std::errc::operation_not_supported, "leases are of spaces that hold tuples, outside transactions; name one of those"));
}

void expect_in_time(Result<bool> done) {
  if (!value_of(std::move(done)))
    throw Failure(make_error(std::errc::timed_out, "the lease is over, and the tuple back or another's; lease it for longer, or extend it in time"));
}

}  // namespace

void Space::put_for(std::chrono::nanoseconds time, TupleView tuple) {
  check_tuple(tuple);
  value_of(leases_of(*backend_).out_for(time, tuple, Wait()));
}

std::optional<DeliveryRef> Space::take_for(std::chrono::nanoseconds time, AnyOf any_of, const Wait* wait, const Receive& receive) {
  auto delivery = leases_of(*backend_).in_for(time, any_of, wait, receive);
  return in_time(delivery) ? *delivery : std::nullopt;
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
  if (backend_ && getpid() == pid_) (void)backend_->leases()->release(ref_, {});
}

void Lease::acknowledge() {
  if (auto backend = std::move(backend_)) return expect_in_time(backend->leases()->acknowledge(ref_));
  expect_in_time(false);
}
void Lease::release(std::chrono::nanoseconds delay) {
  if (auto backend = std::move(backend_)) return expect_in_time(backend->leases()->release(ref_, delay));
  expect_in_time(false);
}
void Lease::extend(std::chrono::nanoseconds time) {
  if (!backend_) return expect_in_time(false);
  expect_in_time(backend_->leases()->extend(ref_, time));
}

}  // namespace godwit
