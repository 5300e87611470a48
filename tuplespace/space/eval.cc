// eval: active tuples, and functions by name.
#include "tuplespace/eval.hh"

#include <sys/random.h>

#include "tuplespace/space/backend.hh"
#include "tuplespace/space/evals.hh"
#include "tuplespace/space/thrown.hh"
#include "tuplespace/space/tuple_check.hh"
#include "tuplespace/transaction.hh"

namespace godwit {
namespace {

Failure misuse(std::string what) { return Failure(make_error(std::errc::invalid_argument, std::move(what))); }

Failure not_active() {
  return Failure(make_error(std::errc::bad_message, "what waits there is no active tuple; put such in with eval"));
}

template <class T>
const T& value_at(const Tuple& tuple, size_t i) {
  const T* value = i < tuple.arity() ? tuple[i].get<T>() : nullptr;
  if (!value) throw not_active();
  return *value;
}

}  // namespace

ActiveTuple& ActiveTuple::add(Field field) {
  fields_.add(std::move(field));
  return *this;
}

ActiveTuple& ActiveTuple::add(Call call) {
  calls_.add(Tuple{fields_.arity(), std::move(call.function), std::move(call.arguments)});
  fields_.add(Nil{});
  return *this;
}

int64_t random_number() {
  uint64_t bits;
  while (getrandom(&bits, sizeof bits, 0) != sizeof bits) continue;
  return static_cast<int64_t>(bits & static_cast<uint64_t>(kLargest));
}

Tuple Active::tuple() const { return {"active", id, function, overtaken, fields, calls}; }
Tuple Active::todo() const { return {"todo", function, id}; }

Active active_of(const Tuple& fields, const Tuple& calls) {
  return {random_number(), value_at<std::string>(value_at<Tuple>(calls, 0), 1), 0, fields, calls};
}

Active active_of(const Tuple& tuple) {
  return {value_at<int64_t>(tuple, 1), value_at<std::string>(tuple, 2), value_at<int64_t>(tuple, 3), value_at<Tuple>(tuple, 4),
          value_at<Tuple>(tuple, 5)};
}

Call first_call(const Active& active) {
  const Tuple& call = value_at<Tuple>(active.calls, 0);
  return {value_at<std::string>(call, 1), value_at<Tuple>(call, 2)};
}

Remaining after_first_call(const Active& active, Field result) {
  std::vector<Field> fields = active.fields.fields(), calls = active.calls.fields();
  const auto position = static_cast<size_t>(value_at<int64_t>(value_at<Tuple>(active.calls, 0), 0));
  if (position >= fields.size()) throw not_active();
  fields[position] = std::move(result);
  calls.erase(calls.begin());
  return {Tuple(std::move(fields)), Tuple(std::move(calls))};
}

// ---- Space

Result<std::shared_ptr<Backend>> Backend::evals() {
  return make_error(std::errc::operation_not_supported, "eval is for spaces of this host; do it on one, and not within a transaction");
}

Space Space::evals() const { return Space(value_of(backend_->evals())); }

void Space::eval(const ActiveTuple& tuple) {
  if (tuple.calls().arity() == 0) return out(tuple.fields());
  const Active active = active_of(tuple.fields(), tuple.calls());
  check_tuple(views_of(active.tuple()));
  value_of(value_of(backend_->evals())->out_all(std::array{active.tuple(), active.todo()}, nullptr));
}

size_t retry_failed(const Space& space) {
  Transaction transaction(space);
  Space evals = transaction.of(space.evals());
  size_t again = 0;
  for (size_t number = evals.count("failed", any, any, any, any); again < number; ++again) {  // and not those that fail meanwhile
    auto failed = evals.inp("failed", any, any, formal<Tuple>, formal<Tuple>);
    if (!failed) break;
    const Active active = active_of(std::get<2>(*failed), std::get<3>(*failed));
    evals.out(active.tuple());
    evals.out(active.todo());
    transaction.commit();
  }
  return again;
}

// ---- Functions

Functions& Functions::add_untyped(std::string name, Body body) {
  if (!is_utf8(name)) throw misuse("a function's name is UTF-8; choose another name");
  if (!bodies_.emplace(name, std::move(body)).second)
    throw misuse("there is a function named '" + name + "' already; choose another name");
  return *this;
}

std::vector<std::string> Functions::names() const {
  std::vector<std::string> all;
  for (const auto& [name, body] : bodies_) all.push_back(name);
  return all;
}

Field Functions::run(const Call& call) const {
  auto found = bodies_.find(call.function);
  if (found == bodies_.end()) throw misuse("there is no function named '" + call.function + "'; register it");
  return found->second(call.arguments);
}

void Functions::check_number(const Tuple& arguments, size_t expected) {
  if (arguments.arity() == expected) return;
  throw misuse("called with " + std::to_string(arguments.arity()) + " arguments; it takes " + std::to_string(expected));
}

void Functions::refuse_type(const Tuple& arguments, size_t i, Type expected) {
  throw misuse("argument " + std::to_string(i + 1) + " is of type " + std::string(type_name(arguments[i].type())) + "; it takes " +
               std::string(type_name(expected)));
}

void Functions::refuse_range(size_t i) { throw misuse("argument " + std::to_string(i + 1) + " is out of range; take an int64_t"); }

}  // namespace godwit
