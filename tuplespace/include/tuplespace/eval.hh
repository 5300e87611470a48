// Active tuples: tuples with calls in them, which become passive ones when workers have carried the calls out.
//
//   godwit::Functions functions;
//   functions.add("square", [](int64_t n) { return n * n; });
//   godwit::Workers workers(space, functions, 2);         // two threads; or processes: godwit worker, work_if_asked
//   space.eval("result", 7, godwit::call("square", 7));   // returns at once
//   auto [square] = space.in("result", 7, formal<int>);   // 49
//
// where      Calls wait in a space of their own, space.evals(), for a worker that knows their function; the oldest goes first. It
//            is named for the space, "bag.eval" of "bag", and dropped with it. Several calls of a tuple are carried out one after
//            the other, each by whoever knows its function; then the tuple is in the space, for everybody at one moment.
// killed     A worker that is killed has done nothing: another one carries the call out. The tuple appears exactly once,
//            whoever is killed and when.
// overtaken  A call that takes several times as long as others of its function is carried out by an idle worker as well, after
//            twice that time by one more, and so on: who finishes first has it. So a function may run several times, also at
//            once, and should change nothing but its result.
// failed     A call whose function throws, which takes other arguments or whose result is no field is put aside, and told in a
//            line on the worker's stderr: ("failed", FUNCTION, MESSAGE, FIELDS, CALLS) in space.evals(). retry_failed has all
//            of them tried again.
// full       A worker waits with its result until the space has room.
// errors     thrown as Failure (result.hh), besides those of Space:
//              operation_not_supported  of "net", and within a transaction
//              invalid_argument         the space's name is too long for ".eval"; a function is registered twice; no function is
// source     Gelernter 1985 (space.hh); eager scheduling: Baratloo, Dasgupta and Kedem, "Calypso", HPDC 1995.
#pragma once
#include <concepts>
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "tuplespace/space.hh"

namespace godwit {

/// A field that is yet to be computed.
struct Call {
  std::string function;
  Tuple arguments;
};
template <Actual... A>
Call call(std::string function, const A&... arguments) {
  return {std::move(function), Tuple(std::vector<Field>{to_field(typed::view(arguments))...})};
}

/// A tuple with calls in it, where its shape is known at run time only. One without is put into the space at once.
class ActiveTuple {
 public:
  ActiveTuple& add(Field field);
  ActiveTuple& add(Call call);

  /// Nil where a call is.
  const Tuple& fields() const { return fields_; }
  /// ((POSITION, FUNCTION, ARGUMENTS), ...), in order.
  const Tuple& calls() const { return calls_; }

 private:
  Tuple fields_, calls_;
};

template <class... F>
  requires HasCall<F...>
void Space::eval(const F&... fields) {
  ActiveTuple tuple;
  auto add = [&tuple]<class T>(const T& field) {
    if constexpr (std::same_as<T, Call>) tuple.add(field);
    else tuple.add(to_field(typed::view(field)));
  };
  (add(fields), ...);
  eval(tuple);
}

/// What workers can carry out, by name.
class Functions {
 public:
  using Body = std::function<Field(const Tuple& arguments)>;

  /// A function of fields, which gives a field: integers (int64_t takes them all), double, bool, std::string, Bytes, Nil, Tuple;
  /// Field for any. Several threads may call it at once. What it throws as a std::exception is a failed call.
  template <class F>
  Functions& add(std::string name, F function) {
    return add_untyped(std::move(name), typed_body(std::function(std::move(function))));
  }
  /// A function of any number of fields of any types.
  Functions& add_untyped(std::string name, Body body);

  std::vector<std::string> names() const;
  /// Carries a call out, here and now. Throws what the function throws, and invalid_argument: there is none of that name, or it
  /// takes other arguments.
  Field run(const Call& call) const;

 private:
  template <class R, class... A>
  static Body typed_body(std::function<R(A...)> function) {
    return [function](const Tuple& arguments) {
      check_number(arguments, sizeof...(A));
      return [&]<size_t... I>(std::index_sequence<I...>) {
        return to_field(typed::view(function(argument<std::decay_t<A>>(arguments, I)...)));
      }(std::index_sequence_for<A...>());
    };
  }
  template <Actual A>
  static A argument(const Tuple& arguments, size_t i) {
    if constexpr (std::same_as<A, Field>) return arguments[i];
    else if (const auto* value = arguments[i].get<Value<A>>(); !value) refuse_type(arguments, i, typed::type_of<Value<A>>);
    else if constexpr (IntegerField<A>) return std::in_range<A>(*value) ? static_cast<A>(*value) : (refuse_range(i), A{});
    else return A(*value);
  }
  static void check_number(const Tuple& arguments, size_t expected);
  [[noreturn]] static void refuse_type(const Tuple& arguments, size_t i, Type expected);
  [[noreturn]] static void refuse_range(size_t i);

  std::map<std::string, Body> bodies_;
};

/// Carries calls out in this thread, until a stop is requested; a call that has been begun is finished first.
/// errors  also those of Space: when it is dropped, say.
void work(const Space& space, const Functions& functions, const std::stop_token& stop = {});

/// Threads that do. One that fails says so on stderr and ends.
class Workers {
 public:
  Workers(const Space& space, Functions functions, size_t number = std::thread::hardware_concurrency());
  Workers(const Workers&) = delete;
  /// As stop.
  ~Workers();
  /// They end; calls that have been begun are finished first.
  void stop();

 private:
  const Functions functions_;
  std::vector<std::jthread> threads_;
};

/// For the beginning of main: `if (auto status = godwit::work_if_asked(functions)) return *status;`. Carries out calls until it is
/// killed, if `godwit worker` has started this process. returns nullopt: somebody else has.
std::optional<int> work_if_asked(const Functions& functions);

/// The calls that have failed are tried again. returns how many.
size_t retry_failed(const Space& space);

}  // namespace godwit
