// What a Space stands on: the store of this host, a space of another, or the socket traffic of the community.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/result.hh"
#include "tuplespace/space.hh"
#include "tuplespace/template.hh"
#include "tuplespace/wait.hh"

namespace godwit {

class Server;
class Undertaking;
namespace store {
class Store;
}

/// Shows the tuples that come. Used by the thread that made it.
class Watcher {
 public:
  using Show = std::function<void(TupleView)>;

  virtual ~Watcher() = default;
  /// returns  whether one was shown; false: none has come yet (wait null).
  /// errors   timed_out, operation_canceled.
  virtual Result<bool> next(const Wait* wait, const Show& show) = 0;
  /// How many came and were not kept, because too many were waiting to be shown.
  virtual uint64_t missed() const = 0;
};

/// Tuples that are put for a time, and taken for a time. returns of the last three  false: the delivery is over.
class Leases {
 public:
  using Time = std::chrono::nanoseconds;

  virtual ~Leases() = default;
  virtual Result<void> out_for(Time time, TupleView tuple, const Wait& wait) = 0;
  /// returns  nullopt: there was none, or receive left it.
  virtual Result<std::optional<DeliveryRef>> in_for(Time time, std::span<const TemplateView> any_of, const Wait* wait,
                                                    const std::function<bool(TupleView)>& receive) = 0;
  virtual Result<bool> acknowledge(const DeliveryRef& ref) = 0;
  virtual Result<bool> release(const DeliveryRef& ref, Time delay) = 0;
  virtual Result<bool> extend(const DeliveryRef& ref, Time time) = 0;
};

/// An out that was begun.
class Putting {
 public:
  virtual ~Putting() = default;
  /// Whether it is done, or has failed.
  virtual bool is_ready() = 0;
  /// returns  false: not until then. errors  the out's.
  virtual Result<bool> get(const Wait& wait) = 0;
};

/// Any number of threads may use one. A child of fork may go on with its parent's.
class Backend {
 public:
  using AnyOf = std::span<const TemplateView>;
  /// Is shown a tuple, which is taken if it returns true; else it stays where it is. Must not use a space.
  using Receive = std::function<bool(TupleView)>;

  virtual ~Backend() = default;

  /// errors  timed_out and operation_canceled, of the wait for room.
  virtual Result<void> out(TupleView tuple, const Wait& wait) = 0;
  /// Puts it without waiting for that, if the tuples go elsewhere; else as out. null: it is there.
  virtual Result<std::shared_ptr<Putting>> begin_out(TupleView tuple) {
    auto done = out(tuple, Wait());
    if (!done) return done.error();
    return std::shared_ptr<Putting>();
  }
  /// All or none, at one moment. wait: for room; null: does not.
  virtual Result<void> out_all(std::span<const Tuple> tuples, const Wait* wait) = 0;
  /// Puts it unless one is there that matches any of the templates (instead: in the place of one that is there, or not at all),
  /// at one moment. returns whether it was put.
  virtual Result<bool> out_if(bool instead, AnyOf any_of, TupleView tuple) = 0;
  /// wait     null: answers at once.
  /// returns  whether there was a tuple, and receive took it.
  /// errors   timed_out, operation_canceled.
  virtual Result<bool> in(AnyOf any_of, const Wait* wait, const Receive& receive) = 0;
  virtual Result<bool> rd(AnyOf any_of, const Wait* wait, const Receive& receive) = 0;
  virtual Result<uint64_t> count(AnyOf any_of) = 0;
  /// All that match any of the templates, or all there are if there are none: at one moment, oldest first.
  virtual Result<std::vector<Tuple>> all(AnyOf any_of) = 0;
  /// To another backend's space, all or none.
  /// errors  also operation_not_supported: not from this one to that one.
  virtual Result<uint64_t> collect(Backend& to, AnyOf any_of, bool copies) = 0;
  /// Watches from now on.
  virtual Result<std::unique_ptr<Watcher>> watch(AnyOf any_of) = 0;
  /// The space in which its active tuples wait (eval.hh), made if there is none.
  /// errors  operation_not_supported: it has none.
  virtual Result<std::shared_ptr<Backend>> evals();
  /// Begins a transaction of its host's spaces.
  /// errors  operation_not_supported: it has none.
  virtual Result<std::shared_ptr<Undertaking>> undertake();
  /// Where its tuples are, if that is a store.
  virtual store::Store* store() { return nullptr; }
  /// null: it has none.
  virtual Leases* leases() { return nullptr; }
  /// Serves asynchronous requests of this one.
  virtual std::unique_ptr<Server> server(std::shared_ptr<Backend> self);
  /// Hosts that did not answer in the last rd, rdp or count; their tuples were left out.
  virtual std::vector<std::string> silent() const { return {}; }
};

}  // namespace godwit
