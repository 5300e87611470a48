// A space, as a C++ program uses it: Linda's operations.
//
//   godwit::Space space("bag");
//   space.out("task", 42, 3.5);
//   auto [n, x] = space.in("task", formal<int>, formal<double>);       // waits for one
//   if (auto task = space.inp("task", formal<int>, any)) ...           // std::optional of what was asked for
//   auto late = space.in(5s, "task", formal<int>, any);                // std::optional: nobody put one in time
//
// formal.hh says what fields and templates are made of. Where the shape is known at run time only, the same operations take
// and give a Tuple and a Template, or several Templates any of which will do.
//
// The spaces are those of this user on this host; each is there until it is dropped or the host restarts. The space "net" is the
// socket traffic of the programs in the community: it is read with rd, rdp and count (docs/spaces.md). With a client's key file
// (godwit keygen) for the host, they are those of another host, and all is as here but for the last errors of the list.
//
// threads  a Space may be used by any number at once; copies are the same space. A child of fork may use its parent's, but opens
//          its own for asynchronous requests.
// killed   a process may be killed at any instruction: what it took and had not yet been given is back in the space, and its waits are
//          gone.
// errors   thrown as Failure (result.hh), whose text says what to do; nothing was changed then. Its code, of which
//          docs/reference.md says who throws it, or that of a system call that failed:
//            no_such_file_or_directory       there is no such space
//            file_exists                     there is one already
//            invalid_argument                no name for a space; one space as source and destination; got twice; what no mediator can put
//            no_space_on_device              the space, the segment or /dev/shm is full
//            message_size                    over a gigabyte, 4096 fields or 32 levels of nesting, or larger than the space
//            illegal_byte_sequence           a string is not UTF-8; bytes are Bytes
//            value_too_large                 an unsigned integer beyond 63 bits
//            identifier_removed              the space was dropped; open it anew. A Subscription is another thread's
//            EUCLEAN                         the space is damaged and closed
//            operation_not_permitted         "net" is changed by mediators only, each in its thread (mediator.hh)
//            operation_not_supported         collected into "net", or into another host's space; eval of "net"
//            broken_pipe                     the stream that a mediator puts to has ended
//            address_in_use                  somebody listens where a mediator would
//            no_buffer_space                 the community has as many listeners as it can
//            too_many_files_open_in_system   as many threads as can do use spaces already
//            permission_denied               the host's folder is another user's, or cannot be written
//            state_not_recoverable           the host's node does not start
//            protocol_not_supported          the host's segment is of another version of Godwit
//            resource_unavailable_try_again  the host's node does not answer: of "net"
//            function_not_supported          the host's node is of another version: of "net"
//            bad_message                     the same
//          and of another host:
//            permission_denied               the key has no right to that
//            connection_refused              it does not know the key, or no longer
//            host_unreachable                it does not answer
//            connection_reset                the session with it ended: what became of the operation is not known
//            no_buffer_space, EDQUOT         the key has as much under way, or as many who wait, as it may
// source   Gelernter, "Generative communication in Linda", TOPLAS 7(1), 1985; collect: Butcher, Wood and Atkins, 1994.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/formal.hh"
#include "tuplespace/space_facts.hh"
#include "tuplespace/wait.hh"

namespace godwit {

class Backend;
class Watcher;
class Subscription;
template <class T>
class Pending;
template <class T>
class Leased;
class Request;
class Requests;
class Putting;
class Transaction;
struct Call;
class ActiveTuple;

/// What an active tuple is made of: fields, and calls (eval.hh), one at least.
template <class... F>
concept HasCall = ((Actual<F> || std::same_as<F, Call>) && ...) && (std::same_as<F, Call> || ...);

/// Where a delivery is kept (Lease).
struct DeliveryRef {
  uint32_t lease = 0, stripe = 0;
  uint64_t number = 0;
};

class Space {
 public:
  /// Opens a space. home: of which host, its folder or a client's key file; empty: GODWIT_HOME or its default. Starts this host's
  /// node if none runs.
  explicit Space(std::string_view name = kDefaultSpace, const std::string& home = "");
  /// Makes it first. errors  also file_exists.
  static Space create(std::string_view name, const SpaceOptions& options = {}, const std::string& home = "");
  /// Its tuples are gone, and who waits there gets identifier_removed.
  static void drop(std::string_view name, const std::string& home = "");
  static std::vector<SpaceFacts> list(const std::string& home = "");

  /// Puts a tuple in, where it is when this returns. Of a full space that was made to block, waits for room.
  template <Actual... F>
  void out(const F&... fields) {
    put(std::array<FieldView, sizeof...(F)>{typed::view(fields)...}, Wait());
  }
  void out(const Tuple& tuple) { put(views_of(tuple), Wait()); }
  /// Begins an out, and returns once there is room for it on its way: of a space of another host, so that one thread need not wait
  /// for each. Puts are done in their order. Here it is done when this returns.
  template <Actual... F>
  Pending<void> out_async(const F&... fields);
  Pending<void> out_async(const Tuple& tuple);
  /// The same within a time. returns false: there was no room until then, or a stop was requested.
  template <Actual... F>
  bool out(const Wait& wait, const F&... fields) {
    return put(std::array<FieldView, sizeof...(F)>{typed::view(fields)...}, wait);
  }
  bool out(const Wait& wait, const Tuple& tuple) { return put(views_of(tuple), wait); }

  /// Puts a tuple in that is gone after that time, unless it is taken before.
  template <Actual... F>
  void out_for(std::chrono::nanoseconds time, const F&... fields) {
    put_for(time, std::array<FieldView, sizeof...(F)>{typed::view(fields)...});
  }
  void out_for(std::chrono::nanoseconds time, const Tuple& tuple) { put_for(time, views_of(tuple)); }
  /// Puts a tuple in unless one is there that matches: space.out_unique({"leader", any}, "leader", me). returns whether it was
  /// put. For everybody at one moment; does not wait for room.
  template <Actual... F>
  bool out_unique(const Template& unless, const F&... fields) {
    return put_if(false, unless, std::array<FieldView, sizeof...(F)>{typed::view(fields)...});
  }
  bool out_unique(const Template& unless, const Tuple& tuple) { return put_if(false, unless, views_of(tuple)); }
  /// Puts a tuple in the place of the oldest that matches: space.swap({"counter", 4}, "counter", 5). returns false: there was
  /// none, and nothing has changed. For everybody at one moment.
  template <Actual... F>
  bool swap(const Template& expected, const F&... fields) {
    return put_if(true, expected, std::array<FieldView, sizeof...(F)>{typed::view(fields)...});
  }
  bool swap(const Template& expected, const Tuple& tuple) { return put_if(true, expected, views_of(tuple)); }

  /// Has a tuple put in once the calls among its fields have been carried out by workers: space.eval("result", n, call("f", n)).
  /// See eval.hh.
  template <class... F>
    requires HasCall<F...>
  void eval(const F&... fields);
  void eval(const ActiveTuple& tuple);
  /// The space in which its calls wait. Made when it is first asked for.
  Space evals() const;

  /// Takes the oldest tuple that matches, waiting until there is one; of those who wait the longest waiting is served.
  template <Asks... P>
  Bound<P...> in(const P&... wanted) {
    return *typed_get<P...>(&Space::take, &kWithoutEnd, wanted...);
  }
  Tuple in(const Template& wanted) { return in(std::span(&wanted, 1)); }
  Tuple in(std::span<const Template> any_of) { return *dynamic_get(&Space::take, &kWithoutEnd, any_of); }
  /// The same within a time. returns nullopt: none came until then, or a stop was requested.
  template <Asks... P>
  std::optional<Bound<P...>> in(const Wait& wait, const P&... wanted) {
    return typed_get<P...>(&Space::take, &wait, wanted...);
  }
  std::optional<Tuple> in(const Wait& wait, const Template& wanted) { return in(wait, std::span(&wanted, 1)); }
  std::optional<Tuple> in(const Wait& wait, std::span<const Template> any_of) { return dynamic_get(&Space::take, &wait, any_of); }
  /// The same at once. returns nullopt: there was a moment during the call at which none was there.
  template <Asks... P>
  std::optional<Bound<P...>> inp(const P&... wanted) {
    return typed_get<P...>(&Space::take, nullptr, wanted...);
  }
  std::optional<Tuple> inp(const Template& wanted) { return inp(std::span(&wanted, 1)); }
  std::optional<Tuple> inp(std::span<const Template> any_of) { return dynamic_get(&Space::take, nullptr, any_of); }

  /// As in and inp, for a time: see Leased.
  template <Asks... P>
  [[nodiscard]] Leased<Bound<P...>> in_for(std::chrono::nanoseconds time, const P&... wanted);
  template <Asks... P>
  [[nodiscard]] std::optional<Leased<Bound<P...>>> in_for(std::chrono::nanoseconds time, const Wait& wait, const P&... wanted);
  template <Asks... P>
  [[nodiscard]] std::optional<Leased<Bound<P...>>> inp_for(std::chrono::nanoseconds time, const P&... wanted);

  /// As in and inp; the tuple stays. A tuple that comes is shown to all who wait in rd before an in takes it.
  template <Asks... P>
  Bound<P...> rd(const P&... wanted) {
    return *typed_get<P...>(&Space::look, &kWithoutEnd, wanted...);
  }
  Tuple rd(const Template& wanted) { return rd(std::span(&wanted, 1)); }
  Tuple rd(std::span<const Template> any_of) { return *dynamic_get(&Space::look, &kWithoutEnd, any_of); }
  template <Asks... P>
  std::optional<Bound<P...>> rd(const Wait& wait, const P&... wanted) {
    return typed_get<P...>(&Space::look, &wait, wanted...);
  }
  std::optional<Tuple> rd(const Wait& wait, const Template& wanted) { return rd(wait, std::span(&wanted, 1)); }
  std::optional<Tuple> rd(const Wait& wait, std::span<const Template> any_of) { return dynamic_get(&Space::look, &wait, any_of); }
  template <Asks... P>
  std::optional<Bound<P...>> rdp(const P&... wanted) {
    return typed_get<P...>(&Space::look, nullptr, wanted...);
  }
  std::optional<Tuple> rdp(const Template& wanted) { return rdp(std::span(&wanted, 1)); }
  std::optional<Tuple> rdp(std::span<const Template> any_of) { return dynamic_get(&Space::look, nullptr, any_of); }

  /// How many match, at one moment; of several templates, each tuple once.
  template <Asks... P>
  uint64_t count(const P&... wanted) {
    return number_of(TemplateView(patterns(wanted...)));
  }
  uint64_t count(const Template& wanted) { return count(std::span(&wanted, 1)); }
  uint64_t count(std::span<const Template> any_of) { return number_of(TemplateViews(any_of)); }

  /// Moves all that match to the end of another space, oldest first: for everybody else at one moment. returns how many.
  template <Asks... P>
  uint64_t collect(Space& to, const P&... wanted) {
    return gather(to, TemplateView(patterns(wanted...)), false);
  }
  uint64_t collect(Space& to, const Template& wanted) { return gather(to, TemplateViews(wanted), false); }
  /// Copies them.
  template <Asks... P>
  uint64_t copy_collect(Space& to, const P&... wanted) {
    return gather(to, TemplateView(patterns(wanted...)), true);
  }
  uint64_t copy_collect(Space& to, const Template& wanted) { return gather(to, TemplateViews(wanted), true); }

  /// Shows every tuple that comes from now on and matches: see Subscription.
  template <Asks... P>
  [[nodiscard]] Subscription subscribe(const P&... wanted);
  [[nodiscard]] Subscription subscribe(const Template& wanted);
  [[nodiscard]] Subscription subscribe(std::span<const Template> any_of);

  /// Begins an in (or rd) and returns at once; the tuple, once there, is the Pending's. Requests are served in the order in
  /// which they were made. One thread of the library waits for all of a Space's.
  template <Asks... P>
  [[nodiscard]] Pending<Bound<P...>> in_async(const P&... wanted);
  template <Asks... P>
  [[nodiscard]] Pending<Bound<P...>> rd_async(const P&... wanted);

  /// Of "net": hosts that did not answer in the last rd, rdp or count; their tuples were left out.
  std::vector<std::string> silent() const;

 protected:
  explicit Space(std::shared_ptr<Backend> backend);
  Backend& backend() const { return *backend_; }

 private:
  friend class Transaction;
  using AnyOf = std::span<const TemplateView>;
  using Receive = std::function<bool(TupleView)>;  // returns true
  static const Wait kWithoutEnd;

  template <class... P>
  static std::array<PatternView, sizeof...(P)> patterns(const P&... wanted) {
    return {typed::pattern(wanted)...};
  }

  // wait  null: at once. The value is there if the wait had no end.
  using Get = bool (Space::*)(AnyOf any_of, const Wait* wait, const Receive& receive);
  template <class... P>
  std::optional<Bound<P...>> typed_get(Get get, const Wait* wait, const P&... wanted) {
    std::optional<Bound<P...>> got;
    auto asked = patterns(wanted...);
    TemplateView view(asked);
    (this->*get)({&view, 1}, wait, [&](TupleView tuple) { return got.emplace(values_of<P...>(tuple)), true; });
    return got;
  }
  std::optional<Tuple> dynamic_get(Get get, const Wait* wait, std::span<const Template> any_of);

  bool put(TupleView tuple, const Wait& wait);
  Pending<void> begin_out(TupleView tuple);
  void put_for(std::chrono::nanoseconds time, TupleView tuple);
  template <class... P>
  std::optional<Leased<Bound<P...>>> lease(std::chrono::nanoseconds time, const Wait* wait, const P&... wanted);
  std::optional<DeliveryRef> take_for(std::chrono::nanoseconds time, AnyOf any_of, const Wait* wait, const Receive& receive);
  bool put_if(bool instead, const Template& wanted, TupleView tuple);
  bool take(AnyOf any_of, const Wait* wait, const Receive& receive);
  bool look(AnyOf any_of, const Wait* wait, const Receive& receive);
  uint64_t number_of(AnyOf any_of);
  uint64_t number_of(TemplateView wanted) { return number_of({&wanted, 1}); }
  uint64_t gather(Space& to, AnyOf any_of, bool copies);
  uint64_t gather(Space& to, TemplateView wanted, bool copies) { return gather(to, {&wanted, 1}, copies); }
  Subscription watch(AnyOf any_of);
  std::shared_ptr<Request> begin(TemplateView wanted, bool takes);

  std::shared_ptr<Backend> backend_;
  std::shared_ptr<Requests> requests_;  // the asynchronous ones
};

/// Every tuple that has come to a space since the subscription and matches, once and in order, also if somebody took it
/// at once. Nobody waits for who watches: what comes while a thousand tuples or 16 MiB wait to be seen is counted, not kept.
/// Used by the thread that made it, and ended with it.
///
/// Of "net": what the streams of this host hold when it looks, each byte once; what their readers took before is not seen.
class Subscription {
 public:
  Subscription(Subscription&&) noexcept;
  Subscription& operator=(Subscription&&) noexcept;
  ~Subscription();
  /// The next tuple, waiting until one comes.
  Tuple next();
  /// Within a time; nullopt: none came until then, or a stop was requested.
  std::optional<Tuple> next(const Wait& wait);
  /// How many were counted and not kept.
  uint64_t missed() const;

 private:
  friend class Space;
  explicit Subscription(std::unique_ptr<Watcher> watcher);
  std::unique_ptr<Watcher> watcher_;
};

template <Asks... P>
Subscription Space::subscribe(const P&... wanted) {
  auto asked = patterns(wanted...);
  TemplateView view(asked);
  return watch({&view, 1});
}

/// A tuple that was taken for a time. It is acknowledged, and then gone for good; or released, and then back at its place; and
/// so it is when the time is over, or when this, or the thread that took it, or its process ends.
///
/// Each delivery of a tuple has a larger number than the one before. Who shows it to others, as a fencing token, is told from those
/// who had the tuple before and come late.
///
/// errors   timed_out, of all three: the delivery is over, and the tuple is back or another's.
/// threads  any, one at a time.
class Lease {
 public:
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;
  ~Lease();

  uint64_t number() const { return ref_.number; }
  void acknowledge();
  /// It comes back after that time.
  void release(std::chrono::nanoseconds delay = {});
  /// The delivery lasts that long from now on.
  void extend(std::chrono::nanoseconds time);

 protected:
  Lease(std::shared_ptr<Backend> backend, DeliveryRef ref);

 private:
  std::shared_ptr<Backend> backend_;  // null: it has ended
  DeliveryRef ref_;
  int pid_;                           // whose it is: a child of fork leaves its parent's as it is
};

/// T: what the same in gives back.
template <class T>
class Leased : public Lease {
 public:
  const T& operator*() const { return value_; }
  const T* operator->() const { return &value_; }

 private:
  friend class Space;
  Leased(std::shared_ptr<Backend> backend, DeliveryRef ref, T value) : Lease(std::move(backend), ref), value_(std::move(value)) {}
  T value_;
};

template <class... P>
std::optional<Leased<Bound<P...>>> Space::lease(std::chrono::nanoseconds time, const Wait* wait, const P&... wanted) {
  std::optional<Bound<P...>> got;
  auto asked = patterns(wanted...);
  TemplateView view(asked);
  auto ref = take_for(time, {&view, 1}, wait, [&](TupleView tuple) { return got.emplace(values_of<P...>(tuple)), true; });
  if (!ref) return std::nullopt;
  return Leased<Bound<P...>>(backend_, *ref, std::move(*got));
}
template <Asks... P>
Leased<Bound<P...>> Space::in_for(std::chrono::nanoseconds time, const P&... wanted) {
  return *lease(time, &kWithoutEnd, wanted...);
}
template <Asks... P>
std::optional<Leased<Bound<P...>>> Space::in_for(std::chrono::nanoseconds time, const Wait& wait, const P&... wanted) {
  return lease(time, &wait, wanted...);
}
template <Asks... P>
std::optional<Leased<Bound<P...>>> Space::inp_for(std::chrono::nanoseconds time, const P&... wanted) {
  return lease(time, nullptr, wanted...);
}

/// An in or rd that is under way. Ending it withdraws the request: then it takes nothing any more.
///
/// A tuple that has come belongs to the process, as after an in; who does not get() it has taken it all the same.
class PendingBase {
 public:
  PendingBase(PendingBase&&) noexcept = default;
  PendingBase& operator=(PendingBase&&) noexcept;
  ~PendingBase();
  /// Whether get() would return (or throw) at once.
  bool ready() const;

 protected:
  PendingBase(std::shared_ptr<Requests> requests, std::shared_ptr<Request> request);
  std::optional<Tuple> get(const Wait& wait);

 private:
  std::shared_ptr<Requests> requests_;
  std::shared_ptr<Request> request_;  // null: moved from
};

/// T: what the same in gives back.
template <class T>
class Pending : public PendingBase {
 public:
  /// Waits for the tuple; throws what the in would. Once.
  T get() { return bind_(*PendingBase::get(Wait())); }
  /// Within a time. returns nullopt: it has not come yet.
  std::optional<T> get(const Wait& wait) {
    auto tuple = PendingBase::get(wait);
    if (!tuple) return std::nullopt;
    return bind_(*tuple);
  }

 private:
  friend class Space;
  using Bind = T (*)(const Tuple& tuple);
  Pending(std::shared_ptr<Requests> requests, std::shared_ptr<Request> request, Bind bind)
      : PendingBase(std::move(requests), std::move(request)), bind_(bind) {}
  Bind bind_;
};

/// An out that is under way, and goes on without this.
template <>
class Pending<void> {
 public:
  /// Whether get() would return (or throw) at once.
  bool ready() const;
  /// Waits until the tuple is there; throws what the out would.
  void get();
  /// Within a time. returns false: it is not there yet.
  bool get(const Wait& wait);

 private:
  friend class Space;
  explicit Pending(std::shared_ptr<Putting> putting);
  std::shared_ptr<Putting> putting_;  // null: it is done
};

template <Actual... F>
Pending<void> Space::out_async(const F&... fields) {
  return begin_out(std::array<FieldView, sizeof...(F)>{typed::view(fields)...});
}
inline Pending<void> Space::out_async(const Tuple& tuple) { return begin_out(views_of(tuple)); }

template <Asks... P>
Pending<Bound<P...>> Space::in_async(const P&... wanted) {
  return {requests_, begin(patterns(wanted...), true), [](const Tuple& tuple) { return values_of<P...>(views_of(tuple)); }};
}
template <Asks... P>
Pending<Bound<P...>> Space::rd_async(const P&... wanted) {
  return {requests_, begin(patterns(wanted...), false), [](const Tuple& tuple) { return values_of<P...>(views_of(tuple)); }};
}

}  // namespace godwit
