// Asynchronous requests of a space of another host: each is one of the protocol, with its own place in line there.
#include <unordered_map>

#include "tuplespace/remote/messages.hh"
#include "tuplespace/remote/remote_backend.hh"
#include "tuplespace/space/requests.hh"

namespace godwit::remote {
namespace {

// A request that is under way.
class Getting final : public Asked {
 public:
  explicit Getting(std::shared_ptr<godwit::Request> request) : request_(std::move(request)) {}

  // Who has withdrawn it puts the tuple back.
  Then look(const msgpack::object&) override {
    if (!request_->takes) return Then::kTell;
    return request_->is_open() ? Then::kConfirm : Then::kDecideLater;
  }
  void tell(const Object& result) override {
    Tuple tuple;
    if (!decode(*result.object, tuple)) return fail(unexpected());
    if (!request_->give(tuple)) unwanted_ = std::move(tuple);
    is_over_ = true;
  }
  void fail(const Error& error) override {
    request_->fail(error);
    is_over_ = true;
  }

  // Under the connection's lock, or once it is over.
  bool is_over() const { return is_over_; }
  const std::optional<Tuple>& unwanted() const { return unwanted_; }

 private:
  std::shared_ptr<godwit::Request> request_;
  bool is_over_ = false;
  std::optional<Tuple> unwanted_;
};

class RemoteServer final : public Server {
 public:
  RemoteServer(std::shared_ptr<Backend> backend, RemoteBackend& remote) : backend_(std::move(backend)), remote_(remote) {}

  void add(std::shared_ptr<godwit::Request> request) override {
    auto connection = remote_.link().connection();
    if (!connection) return request->fail(connection.error());
    TemplateViews wanted(request->wanted);
    if (auto no = refused(AnyOf(wanted))) return request->fail(*no);
    Packed packed = remote::request(request->takes ? "in" : "rd", remote_.name(), AnyOf(wanted), Milliseconds{});
    auto getting = std::make_shared<Getting>(request);
    std::lock_guard guard(lock_);
    if (open_.size() >= look_at_) {
      std::erase_if(open_, [&](const auto& one) { return (*connection)->look([&] { return one.second.getting->is_over(); }); });
      look_at_ = std::max(kLeast, 2 * open_.size());
    }
    open_[request.get()] = {*connection, (*connection)->begin(packed, getting), getting};
  }

  // It is cancelled there; or had taken a tuple, which is put back: to its place, or, once confirmed, anew.
  void withdrawn(godwit::Request& request) override {
    Under under;
    {
      std::lock_guard guard(lock_);
      auto it = open_.find(&request);
      if (it == open_.end()) return;
      under = std::move(it->second);
      open_.erase(it);
    }
    auto put_back = under.connection->put_back(under.number);
    if (!put_back || *put_back) return;  // or the session has ended, and put it back
    under.connection->wait_until([&] { return under.getting->is_over(); }, Wait());
    if (request.takes && under.getting->unwanted()) (void)remote_.out(views_of(*under.getting->unwanted()), Wait());
  }

 private:
  static constexpr size_t kLeast = 64;
  struct Under {
    Connection* connection = nullptr;
    Number number;
    std::shared_ptr<Getting> getting;
  };

  std::shared_ptr<Backend> backend_;
  RemoteBackend& remote_;
  std::mutex lock_;
  std::unordered_map<const godwit::Request*, Under> open_;  // under lock_; those that are over stay a while
  size_t look_at_ = kLeast;                                 // under lock_
};

}  // namespace

std::unique_ptr<Server> RemoteBackend::server(std::shared_ptr<Backend> self) {
  return std::make_unique<RemoteServer>(std::move(self), *this);
}

}  // namespace godwit::remote
