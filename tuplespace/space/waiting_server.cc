// Requests of what is no store. Nothing is taken there: in and inp on socket traffic are refused.
#include <algorithm>
#include <list>
#include <thread>

#include "tuplespace/match.hh"
#include "tuplespace/space/requests.hh"

namespace godwit {
namespace {

using Open = std::vector<std::shared_ptr<Request>>;

// Those of one verb, oldest first, and the thread that waits for them.
class Line {
 public:
  Line(std::shared_ptr<Backend> backend, bool takes) : backend_(std::move(backend)), takes_(takes) {}
  ~Line() {
    thread_.request_stop();
    look_again();
  }
  void add(std::shared_ptr<Request> request);
  void look_again();

 private:
  void run(const std::stop_token& stop);
  void serve(const Open& open, std::stop_token changed);

  std::shared_ptr<Backend> backend_;
  const bool takes_;
  std::mutex lock_;
  std::condition_variable_any added_;
  std::list<std::shared_ptr<Request>> open_;  // under lock_
  std::stop_source changed_;                  // under lock_: ends a wait whose list of requests is old
  std::jthread thread_;                       // from the first request on
};

void Line::add(std::shared_ptr<Request> request) {
  std::lock_guard guard(lock_);
  open_.push_back(std::move(request));
  changed_.request_stop();
  added_.notify_one();
  if (!thread_.joinable()) thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

void Line::look_again() {
  std::lock_guard guard(lock_);
  changed_.request_stop();
}

void Line::run(const std::stop_token& stop) {
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
void Line::serve(const Open& open, std::stop_token changed) {
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

class WaitingServer final : public Server {
 public:
  explicit WaitingServer(const std::shared_ptr<Backend>& backend) : ins_(backend, true), rds_(backend, false) {}
  void add(std::shared_ptr<Request> request) override { line_of(*request).add(std::move(request)); }
  void withdrawn(Request& request) override { line_of(request).look_again(); }

 private:
  Line& line_of(const Request& request) { return request.takes ? ins_ : rds_; }
  Line ins_, rds_;
};

}  // namespace

std::unique_ptr<Server> waiting_server(std::shared_ptr<Backend> backend) { return std::make_unique<WaitingServer>(backend); }

}  // namespace godwit
