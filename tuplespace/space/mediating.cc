#include "tuplespace/space/mediating.hh"

#include "tuplespace/store/desk.hh"

namespace godwit {

Result<std::shared_ptr<MediatorBackend>> MediatorBackend::make(std::shared_ptr<Host> host) {
  auto desk = store::Desk::of(host->segment());
  if (!desk) return desk.error();
  return std::shared_ptr<MediatorBackend>(new MediatorBackend(std::move(host), (*desk)->self));
}

MediatorBackend::~MediatorBackend() {
  if (getpid() != pid_) (void)mediator_.release();
}

std::optional<Error> MediatorBackend::not_ours() const {
  if (getpid() == pid_ && std::this_thread::get_id() == thread_) return std::nullopt;
  return make_error(std::errc::operation_not_permitted, "a mediator is for the thread that made it; make one in this thread");
}

Result<uint16_t> MediatorBackend::listen(const std::string& host, uint16_t port) {
  if (auto no = not_ours()) return *no;
  return mediator_->listen(host, port);
}

Result<void> MediatorBackend::out(TupleView tuple, const Wait& wait) {
  if (auto no = not_ours()) return *no;
  return mediator_->out(tuple, wait.deadline, wait.stop);
}

Result<bool> MediatorBackend::in(AnyOf any_of, const Wait* wait, const Receive& receive) {
  if (auto no = not_ours()) return *no;
  if (wait) {
    auto taken = mediator_->in(any_of, wait->deadline, wait->stop);
    if (!taken) return taken.error();
    return receive(views_of(*taken)), true;
  }
  auto taken = mediator_->inp(any_of);
  return taken && (receive(views_of(*taken)), true);
}

}  // namespace godwit
