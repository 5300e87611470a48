#include "tuplespace/space/requests.hh"

#include "tuplespace/match.hh"

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

bool Request::is_ready() const { return !is_open(); }

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

// A child of fork has none of its parent's threads, and their locks may be held for ever: it leaves all that as it is.
std::shared_ptr<Requests> Requests::make(std::shared_ptr<Backend> backend) {
  return {new Requests(std::move(backend)), [](Requests* requests) {
            if (getpid() == requests->pid_) delete requests;
          }};
}

std::shared_ptr<Request> Requests::begin(Template wanted, bool takes) {
  auto request = std::make_shared<Request>(std::move(wanted), takes);
  line_of(takes).add(request);
  return request;
}

void Requests::withdraw(Request& request) {
  if (getpid() != pid_) return;
  if (!request.withdraw()) return;
  line_of(request.takes).look_again();
}

Requests::Line::~Line() {
  thread_.request_stop();
  look_again();
}

void Requests::Line::add(std::shared_ptr<Request> request) {
  std::lock_guard guard(lock_);
  open_.push_back(std::move(request));
  changed_.request_stop();
  added_.notify_one();
  if (!thread_.joinable()) thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

void Requests::Line::look_again() {
  std::lock_guard guard(lock_);
  changed_.request_stop();
}

void Requests::Line::run(const std::stop_token& stop) {
  for (;;) {
    Open open;
    std::stop_token changed;
    {
      std::unique_lock guard(lock_);
      std::erase_if(open_, [](const auto& request) { return !request->is_open(); });
      if (!added_.wait(guard, stop, [this] { return !open_.empty(); }) || stop.stop_requested()) return;
      open.assign(open_.begin(), open_.end());
      changed_ = std::stop_source();
      changed = changed_.get_token();
    }
    serve(open, changed);
  }
}

// One tuple for the oldest request that it matches (of rds, for all that it matches), or an error for all.
void Requests::Line::serve(const Open& open, std::stop_token changed) {
  std::vector<Template> wanted;
  for (const auto& request : open) wanted.push_back(request->wanted);
  auto receive = [&](TupleView tuple) {
    bool given = false;
    for (const auto& request : open)
      if ((!given || !takes_) && match(request->wanted, tuple)) given |= request->give(to_tuple(tuple));
    return given;
  };
  TemplateViews views(wanted);
  Wait wait(std::move(changed));
  auto done = takes_ ? backend_->in(views, &wait, receive) : backend_->rd(views, &wait, receive);
  if (done || done.error().code == std::errc::operation_canceled) return;
  for (const auto& request : open) request->fail(done.error());
}

}  // namespace godwit
