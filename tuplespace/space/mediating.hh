// The space "net" as mediators have it.
#pragma once
#include <unistd.h>

#include "tuplespace/space/net.hh"
#include "tuplespace/streams/mediator.hh"

namespace godwit {

/// As "net", with in and out for the thread that made it. A tuple that was taken cannot go back: in has taken it, whatever
/// receive says.
class MediatorBackend final : public Backend {
 public:
  static Result<std::shared_ptr<MediatorBackend>> make(std::shared_ptr<Host> host);
  /// A child of fork leaves its parent's mediator as it is.
  ~MediatorBackend() override;

  Result<uint16_t> listen(const std::string& host, uint16_t port);
  Result<void> out(TupleView tuple, const Wait& wait) override;
  Result<void> out_all(std::span<const Tuple> tuples, const Wait* wait) override { return net_->out_all(tuples, wait); }
  Result<bool> out_if(bool instead, AnyOf any_of, TupleView tuple) override { return net_->out_if(instead, any_of, tuple); }
  Result<bool> in(AnyOf any_of, const Wait* wait, const Receive& receive) override;
  Result<bool> rd(AnyOf any_of, const Wait* wait, const Receive& receive) override { return net_->rd(any_of, wait, receive); }
  Result<uint64_t> count(AnyOf any_of) override { return net_->count(any_of); }
  Result<std::vector<Tuple>> all(AnyOf any_of) override { return net_->all(any_of); }
  Result<uint64_t> collect(Backend& to, AnyOf any_of, bool copies) override { return net_->collect(to, any_of, copies); }
  Result<std::unique_ptr<Watcher>> watch(AnyOf any_of) override { return net_->watch(any_of); }
  std::vector<std::string> silent() const override { return net_->silent(); }

 private:
  MediatorBackend(std::shared_ptr<Host> host, shared::Thread& self) : net_(net_backend(std::move(host))), mediator_(std::make_unique<StreamMediator>(self)) {}
  std::optional<Error> not_ours() const;

  std::shared_ptr<Backend> net_;
  std::unique_ptr<StreamMediator> mediator_;
  const std::thread::id thread_ = std::this_thread::get_id();
  const int pid_ = getpid();
};

}  // namespace godwit
