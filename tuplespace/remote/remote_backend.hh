// A space of another host. Every operation is a request of the protocol, and each in has taken its tuple when it returns: the
// node knows that it was received.
#pragma once
#include "tuplespace/remote/link.hh"
#include "tuplespace/space/backend.hh"

namespace godwit::remote {

class RemoteBackend final : public Backend, public Leases {
 public:
  RemoteBackend(Link link, std::string_view name) : link_(std::move(link)), name_(name) {}

  Result<void> out(TupleView tuple, const Wait& wait) override;
  Result<std::shared_ptr<Putting>> begin_out(TupleView tuple) override;
  Result<void> out_all(std::span<const Tuple> tuples, const Wait* wait) override;
  Result<bool> out_if(bool instead, AnyOf any_of, TupleView tuple) override;
  Result<bool> in(AnyOf any_of, const Wait* wait, const Receive& receive) override;
  Result<bool> rd(AnyOf any_of, const Wait* wait, const Receive& receive) override;
  Result<uint64_t> count(AnyOf any_of) override;
  Result<std::vector<Tuple>> all(AnyOf any_of) override;
  Result<uint64_t> collect(Backend& to, AnyOf any_of, bool copies) override;
  Result<std::unique_ptr<Watcher>> watch(AnyOf any_of) override;
  Result<std::shared_ptr<Backend>> evals() override;
  Result<std::shared_ptr<Undertaking>> undertake() override;
  Leases* leases() override { return this; }
  std::unique_ptr<Server> server(std::shared_ptr<Backend> self) override;

  // A lease's DeliveryRef has the life that it is of.
  Result<void> out_for(Time time, TupleView tuple, const Wait& wait) override;
  Result<std::optional<DeliveryRef>> in_for(Time time, AnyOf any_of, const Wait* wait, const Receive& receive) override;
  Result<bool> acknowledge(const DeliveryRef& ref) override;
  Result<bool> release(const DeliveryRef& ref, Time delay) override;
  Result<bool> extend(const DeliveryRef& ref, Time time) override;

  const Link& link() const { return link_; }
  const std::string& name() const { return name_; }

 private:
  Result<Answered> ask(const Packed& packed, const std::stop_token& stop = {}, uint64_t life = 0) const;
  Result<bool> ask_lease(const Packed& packed, const DeliveryRef& ref) const;

  const Link link_;
  const std::string name_;
};

/// Whether the out's result says that there was room; timed_out: not in that time.
Result<void> expect_room(const Result<Answered>& answer);
/// Shows the tuple of a result. returns  what receive does; false: there is none, and wait is null.
/// errors  timed_out: there is none.
Result<bool> show(const msgpack::object& result, const Wait* wait, const Backend::Receive& receive);

}  // namespace godwit::remote
