#include "tuplespace/space/requests.hh"

#include <unistd.h>

namespace godwit {

bool Request::give(Tuple tuple) {
  std::lock_guard guard(lock_);
  if (state_ != State::kOpen) return false;
  tuple_ = std::move(tuple);
  state_ = State::kGiven;
  changed_.notify_all();
  return true;
}

void Request::fail(Error error) {
  std::lock_guard guard(lock_);
  if (state_ != State::kOpen) return;
  error_ = std::move(error);
  state_ = State::kFailed;
  changed_.notify_all();
}

bool Request::withdraw() {
  std::lock_guard guard(lock_);
  if (state_ != State::kOpen) return false;
  state_ = State::kWithdrawn;
  return true;
}

bool Request::is_open() const {
  std::lock_guard guard(lock_);
  return state_ == State::kOpen;
}

std::optional<Tuple> Request::get(const Wait& wait) {
  std::unique_lock guard(lock_);
  auto ready = [this] { return state_ != State::kOpen; };
  if (wait.deadline == kForever) changed_.wait(guard, wait.stop, ready);
  else changed_.wait_until(guard, wait.stop, wait.deadline, ready);
  if (state_ == State::kFailed) throw Failure(error_);
  if (state_ == State::kGot) throw Failure(make_error(std::errc::invalid_argument, "the tuple was got before; get it once"));
  if (state_ == State::kOpen) return std::nullopt;
  state_ = State::kGot;
  return std::move(tuple_);
}

Requests::Requests(std::shared_ptr<Backend> backend)
    : pid_(getpid()), server_(backend->server(backend)) {}

std::unique_ptr<Server> Backend::server(std::shared_ptr<Backend> self) { return waiting_server(std::move(self)); }

Requests::~Requests() {
  if (getpid() != pid_) (void)server_.release();
}

std::shared_ptr<Request> Requests::begin(Template wanted, bool takes) {
  auto request = std::make_shared<Request>(std::move(wanted), takes);
  server_->add(request);
  return request;
}

void Requests::withdraw(Request& request) {
  if (getpid() == pid_ && request.withdraw()) server_->withdrawn(request);
}

}  // namespace godwit
