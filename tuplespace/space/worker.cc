// Workers: they carry calls out. docs/decisions/0014 has the reasons.
//
// A worker takes a todo in a transaction, which its death rolls back, and ends the same transaction by taking the active tuple
// and putting what came of it. While there is no todo it watches an active tuple that somebody else has in hand. If that is still
// there when its time is over, the worker carries it out as well, and ends it in a transaction of its own: whoever takes the
// active tuple first has decided. Then its todo, if somebody has it, is left with a mark that nothing is to be done.
//
// Two transactions that wait for each other would wait for ever. Here one waits, for an active tuple whose todo it has; and who
// has such a tuple in hand without its todo waits for nobody.
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "tuplespace/space/evals.hh"
#include "tuplespace/space/tuple_check.hh"
#include "tuplespace/space/worker.hh"
#include "tuplespace/space/worker_order.hh"
#include "tuplespace/transaction.hh"

namespace godwit {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kPause = 10ms;  // from one look for room to the next

void tell(const std::string& line) { std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, line.c_str()); }

// What came of a call.
struct Outcome {
  Remaining tuple;
  std::string complaint;  // not empty: it has failed
};

Outcome failure(std::string_view what) { return {{}, what.empty() || !is_utf8(what) ? "it has thrown" : std::string(what)}; }

class Worker {
 public:
  Worker(const Space& space, const Functions& functions, std::stop_token stop, const Pace& pace)
      : functions_(functions), stop_(std::move(stop)), pace_(pace), evals_(space.evals()), transaction_(space),
        results_(transaction_.of(space)), calls_(transaction_.of(evals_)) {
    for (const std::string& name : functions.names()) todos_.push_back({"todo", name, formal<int>});
    if (todos_.empty()) throw Failure(make_error(std::errc::invalid_argument, "a worker needs functions; add them"));
  }

  void run() {
    while (!stop_.stop_requested()) {
      try {
        step();
      } catch (const Failure& failure) {
        if (failure.code() != std::errc::no_space_on_device) throw;
        transaction_.roll_back();
        wait_for_room(failure);
      }
    }
  }

 private:
  void step() {
    if (auto todo = calls_.in(Wait(due_, stop_), todos_)) return do_todo(*(*todo)[2].get<int64_t>());
    if (stop_.stop_requested()) return;
    if (watched_ && claim(*watched_)) finish_first(*watched_, carry_out(*watched_));
    watched_ = one_under_way();
    due_ = Clock::now() + (watched_ ? patience(*watched_) : pace_.look);
  }

  // ---- A todo, which the transaction has taken

  void do_todo(int64_t id) {
    auto active = active_with(evals_, &Space::rd, id);
    if (!active) return transaction_.roll_back();
    Outcome outcome;
    if (active->overtaken != kDone) outcome = carry_out(*active);
    active = active_with(calls_, &Space::in, id);
    if (!active) return transaction_.roll_back();
    if (active->overtaken == kDone) return commit();
    become(*active, outcome);
  }

  // Waits while somebody has it in hand. nullopt: a stop is requested.
  using Get = std::optional<Tuple> (Space::*)(const Wait&, const Template&);
  std::optional<Active> active_with(Space& space, Get get, int64_t id) {
    auto tuple = (space.*get)(stop_, {"active", id, any, any, any, any});
    if (!tuple) return std::nullopt;
    return active_of(*tuple);
  }

  // ---- An active tuple whose todo others have, or that nobody has any more

  // Says so, that others wait longer before they do the same. returns false: somebody was faster, or it is done.
  bool claim(Active& active) {
    const Template before{"active", active.id, active.function, active.overtaken, any, any};
    ++active.overtaken;
    return evals_.swap(before, active.tuple());
  }

  void finish_first(const Active& active, const Outcome& outcome) {
    if (!calls_.inp("active", active.id, any, range(int64_t{0}, kLargest), any, any)) return;
    if (!calls_.inp(Template(active.todo()))) calls_.out(Active{active.id, active.function, kDone, {}, {}}.tuple());
    become(active, outcome);
  }

  // Any, of those first that nobody has set out to overtake.
  std::optional<Active> one_under_way() {
    const int64_t middle = random_number();
    for (int64_t most : {int64_t{0}, kLargest})
      for (auto [low, high] : {std::pair(middle, kLargest), std::pair(int64_t{0}, middle)})
        if (auto found = evals_.rdp(under_way(Range{low, high}, Range{0, most}))) return active_of(*found);
    return std::nullopt;
  }
  std::vector<Template> under_way(const Range& ids, const Range& overtaken) const {
    std::vector<Template> all;
    for (const std::string& name : functions_.names()) all.push_back({"active", ids, name, overtaken, formal<Tuple>, formal<Tuple>});
    return all;
  }

  // Twice as long for each who has set out already: so there are few, however many are idle.
  Clock::duration patience(const Active& active) const {
    auto usual = usual_.find(active.function);
    auto once = usual == usual_.end() ? pace_.unknown : std::max(pace_.least, pace_.usual * usual->second);
    return once * (int64_t{1} << std::min<int64_t>(active.overtaken, 20));
  }

  // ---- Either

  Outcome carry_out(const Active& active) {
    auto began = Clock::now();
    try {
      Outcome outcome{after_first_call(active, functions_.run(first_call(active))), ""};
      check_tuple(views_of(outcome.tuple.fields));
      note_time(active.function, Clock::now() - began);
      return outcome;
    } catch (const std::exception& error) {
      return failure(error.what());
    }
  }

  void note_time(const std::string& function, Clock::duration time) {
    auto [usual, is_first] = usual_.emplace(function, time);
    if (!is_first) usual->second += (time - usual->second) / 8;
  }

  // The active tuple is the transaction's: it becomes what came of it.
  void become(const Active& active, const Outcome& outcome) {
    try {
      put(active, outcome);
      commit();
    } catch (const Failure& error) {
      if (error.code() != std::errc::message_size || !outcome.complaint.empty()) throw;
      transaction_.roll_back();
      return finish_first(active, failure(error.what()));  // its todo may be another's by now
    }
    if (!outcome.complaint.empty()) tell(active.function + ": " + outcome.complaint + "; put aside, see godwit help worker");
  }

  void put(const Active& active, const Outcome& outcome) {
    if (!outcome.complaint.empty()) return calls_.out("failed", active.function, outcome.complaint, active.fields, active.calls);
    if (outcome.tuple.calls.arity() == 0) return results_.out(outcome.tuple.fields);
    const Active next = active_of(outcome.tuple.fields, outcome.tuple.calls);
    calls_.out(next.tuple());
    calls_.out(next.todo());
  }

  // Once there is room for what was put.
  void commit() {
    for (;;) {
      try {
        return transaction_.commit();
      } catch (const Failure& error) {
        if (error.code() != std::errc::no_space_on_device) throw;
        wait_for_room(error);
      }
      if (stop_.stop_requested()) return transaction_.roll_back();
    }
  }

  void wait_for_room(const Failure& error) {
    if (!waited_) tell(std::string(error.what()) + "; a result waits until there is room");
    waited_ = true;
    std::this_thread::sleep_for(kPause);
  }

  const Functions& functions_;
  const std::stop_token stop_;
  const Pace pace_;
  Space evals_;
  Transaction transaction_;
  Space results_, calls_;  // as the transaction has them
  std::vector<Template> todos_;
  bool waited_ = false;                                // for room, once or more
  std::map<std::string, Clock::duration> usual_;       // time of a call, by function
  std::optional<Active> watched_;                      // was under way when we last looked, ...
  Clock::time_point due_ = Clock::now() + pace_.look;  // ... which we do again then
};

}  // namespace

void work(const Space& space, const Functions& functions, const std::stop_token& stop, const Pace& pace) {
  Worker(space, functions, stop, pace).run();
}
void work(const Space& space, const Functions& functions, const std::stop_token& stop) { work(space, functions, stop, {}); }

Workers::Workers(const Space& space, Functions functions, size_t number) : functions_(std::move(functions)) {
  for (size_t i = 0; i < number; ++i)
    threads_.emplace_back([this, space](const std::stop_token& stop) {
      try {
        work(space, functions_, stop);
      } catch (const std::exception& error) {
        tell(std::string("a worker ends: ") + error.what());
      }
    });
}

Workers::~Workers() { stop(); }

void Workers::stop() {
  for (std::jthread& thread : threads_) thread.request_stop();
  threads_.clear();
}

std::optional<int> work_if_asked(const Functions& functions) {
  auto order = WorkerOrder::given();
  if (!order) return std::nullopt;
  order->accept();
  try {
    work(Space(order->space), functions);
  } catch (const std::exception& error) {
    tell(error.what());
  }
  return EXIT_FAILURE;
}

}  // namespace godwit
