// The public Space: what its templates need, over a backend, with errors thrown.
#include "tuplespace/space.hh"

#include "tuplespace/mediator.hh"
#include "tuplespace/space/host_spaces.hh"
#include "tuplespace/space/mediating.hh"
#include "tuplespace/space/requests.hh"
#include "tuplespace/space/thrown.hh"
#include "tuplespace/space/tuple_check.hh"

namespace godwit {

const Wait Space::kWithoutEnd;

Space::Space(std::shared_ptr<Backend> backend)
    : backend_(std::move(backend)), requests_(std::make_shared<Requests>(backend_)) {}
Space::Space(std::string_view name, const std::string& home) : Space(value_of(value_of(HostSpaces::of(home))->open(name))) {}

Space Space::create(std::string_view name, const SpaceOptions& options, const std::string& home) {
  value_of(value_of(HostSpaces::of(home))->create(name, options));
  return Space(name, home);
}

void Space::drop(std::string_view name, const std::string& home) { value_of(value_of(HostSpaces::of(home))->drop(name)); }

std::vector<SpaceFacts> Space::list(const std::string& home) { return value_of(value_of(HostSpaces::of(home))->list()); }

std::vector<std::string> Space::silent() const { return backend_->silent(); }

bool Space::put(TupleView tuple, const Wait& wait) {
  check_tuple(tuple);
  return in_time(backend_->out(tuple, wait));
}

Pending<void> Space::begin_out(TupleView tuple) {
  check_tuple(tuple);
  return Pending<void>(value_of(backend_->begin_out(tuple)));
}

Pending<void>::Pending(std::shared_ptr<Putting> putting) : putting_(std::move(putting)) {}
bool Pending<void>::ready() const { return !putting_ || putting_->is_ready(); }
void Pending<void>::get() { (void)get(Wait()); }
bool Pending<void>::get(const Wait& wait) { return !putting_ || value_of(putting_->get(wait)); }

bool Space::put_if(bool instead, const Template& wanted, TupleView tuple) {
  check_tuple(tuple);
  return value_of(backend_->out_if(instead, TemplateViews(wanted), tuple));
}

bool Space::take(AnyOf any_of, const Wait* wait, const Receive& receive) {
  auto got = backend_->in(any_of, wait, receive);
  return in_time(got) && *got;
}

bool Space::look(AnyOf any_of, const Wait* wait, const Receive& receive) {
  auto got = backend_->rd(any_of, wait, receive);
  return in_time(got) && *got;
}

std::optional<Tuple> Space::dynamic_get(Get get, const Wait* wait, std::span<const Template> any_of) {
  std::optional<Tuple> got;
  (this->*get)(TemplateViews(any_of), wait, [&](TupleView tuple) { return got = to_tuple(tuple), true; });
  return got;
}

uint64_t Space::number_of(AnyOf any_of) { return value_of(backend_->count(any_of)); }
uint64_t Space::gather(Space& to, AnyOf any_of, bool copies) { return value_of(backend_->collect(*to.backend_, any_of, copies)); }

Mediator::Mediator(const std::string& home) : Space(value_of(MediatorBackend::make(value_of(host_itself(home))))) {}
uint16_t Mediator::listen(const std::string& host, uint16_t port) {
  return value_of(static_cast<MediatorBackend&>(backend()).listen(host, port));
}

Subscription Space::watch(AnyOf any_of) { return Subscription(value_of(backend_->watch(any_of))); }
Subscription Space::subscribe(const Template& wanted) { return watch(TemplateViews(wanted)); }
Subscription Space::subscribe(std::span<const Template> any_of) { return watch(TemplateViews(any_of)); }

Subscription::Subscription(std::unique_ptr<Watcher> watcher) : watcher_(std::move(watcher)) {}
Subscription::Subscription(Subscription&&) noexcept = default;
Subscription& Subscription::operator=(Subscription&&) noexcept = default;
Subscription::~Subscription() = default;
Tuple Subscription::next() { return *next(Wait()); }
std::optional<Tuple> Subscription::next(const Wait& wait) {
  std::optional<Tuple> seen;
  (void)in_time(watcher_->next(&wait, [&](TupleView tuple) { seen = to_tuple(tuple); }));
  return seen;
}
uint64_t Subscription::missed() const { return watcher_->missed(); }

std::shared_ptr<Request> Space::begin(TemplateView wanted, bool takes) { return requests_->begin(to_template(wanted), takes); }

PendingBase::PendingBase(std::shared_ptr<Requests> requests, std::shared_ptr<Request> request)
    : requests_(std::move(requests)), request_(std::move(request)) {}
PendingBase& PendingBase::operator=(PendingBase&& other) noexcept {
  std::swap(requests_, other.requests_);
  std::swap(request_, other.request_);
  return *this;
}
PendingBase::~PendingBase() {
  if (request_) requests_->withdraw(*request_);
}
bool PendingBase::ready() const { return !request_->is_open(); }
std::optional<Tuple> PendingBase::get(const Wait& wait) { return request_->get(wait); }

}  // namespace godwit
