// Every request of a client takes effect once, in order, whatever becomes of its messages (they are lost, repeated, late) and of
// the node (it is killed at any moment): what a client hears is what a list of tuples says that had each request once.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <deque>

#include "tests/support/clients.hh"
#include "tests/support/space.hh"

namespace godwit::testing {
namespace {

constexpr const char* kSpace = "default";
constexpr int kKeys = 3;

enum class Kind { kOut, kOutTwo, kIn, kUnique, kSwap, kRd, kCount };
constexpr const char* kKinds[] = {"out", "two", "in", "unique", "swap", "rd", "count"};
struct Step {
  Kind kind;
  int key;
};
std::ostream& operator<<(std::ostream& os, const Step& step) { return os << kKinds[static_cast<int>(step.kind)] << ' ' << step.key; }

// A space, as its tuples in order.
class Model {
 public:
  // What the request is answered with.
  Packed apply(const Step& step, int id) {
    auto found = std::find_if(tuples_.begin(), tuples_.end(), [&](const Tuple& tuple) { return *tuple[0].get<int64_t>() == step.key; });
    bool there = found != tuples_.end();
    Packed seen = there ? encode(*found) : pack(nullptr);
    switch (step.kind) {
      case Kind::kOut: return put(step.key, id), pack(true);
      case Kind::kOutTwo: return put(step.key, id), put(step.key, -id), pack(true);
      case Kind::kIn: return there ? (void)tuples_.erase(found) : void(), seen;
      case Kind::kUnique: return there ? void() : put(step.key, id), pack(!there);
      case Kind::kSwap: return there ? (void)tuples_.erase(found), put(step.key, id) : void(), pack(there);
      case Kind::kRd: return seen;
      case Kind::kCount: return pack(static_cast<uint64_t>(std::count_if(tuples_.begin(), tuples_.end(), [&](const Tuple& tuple) { return *tuple[0].get<int64_t>() == step.key; })));
    }
    return {};
  }
  const std::deque<Tuple>& tuples() const { return tuples_; }

 private:
  void put(int key, int id) { tuples_.push_back(Tuple{key, id}); }
  std::deque<Tuple> tuples_;
};

bool only_looks(Kind kind) { return kind == Kind::kRd || kind == Kind::kCount; }

Packed request_of(const Step& step, int id) {
  Template wanted{step.key, Formal{Type::kInt}};
  Packed one = encode(Tuple{step.key, id}), any = packed(wanted);
  switch (step.kind) {
    case Kind::kOut: return out_of(kSpace, {Tuple{step.key, id}});
    case Kind::kOutTwo: return out_of(kSpace, {Tuple{step.key, id}, Tuple{step.key, -id}});
    case Kind::kIn: return in_of(kSpace, wanted);
    case Kind::kUnique: return request("unique", kSpace, raw(any), raw(one));
    case Kind::kSwap: return request("swap", kSpace, raw(any), raw(one));
    case Kind::kRd: return request("rd", kSpace, raw(any), 0);
    case Kind::kCount: return request("count", kSpace, raw(any));
  }
  return {};
}

// What happens to a message, and what then.
struct Mishap {
  int requests;  // in the message
  bool lost, twice, late;
  int then;      // Run::happen's
};
std::ostream& operator<<(std::ostream& os, const Mishap& mishap) {
  return os << mishap.requests << (mishap.lost ? " lost" : "") << (mishap.twice ? " twice" : "") << (mishap.late ? " late" : "") << ", " << mishap.then;
}

class Run {
 public:
  explicit Run(const std::vector<Step>& steps) : steps_(steps), key_(server_.make_client("one")) {
    server_.start();
    client_.emplace(server_, key_);
  }

  void go(const std::vector<Mishap>& mishaps) {
    size_t next = 0;
    for (const Mishap& mishap : mishaps) {
      std::vector<Packed> requests;
      for (int i = 0; i < mishap.requests && next < steps_.size(); ++i, ++next) requests.push_back(request_of(steps_[next], static_cast<int>(next + 1)));
      Packed message = client_->begin(requests);
      if (mishap.late) late_.push_back(message);
      else if (!mishap.lost) client_->send(message);
      if (mishap.twice) client_->send(message);
      happen(mishap.then);
    }
    for (const Packed& message : std::exchange(late_, {})) client_->send(message);
    while (!client_->open().empty() && !client_->over()) {
      revive();
      if (!client_->hear(20)) client_->resend();
    }
  }

  void check() {
    RC_ASSERT(!client_->over());
    Model model;
    std::vector<Packed> looks;
    std::vector<Model> after = {model};
    for (size_t i = 0; i < steps_.size(); ++i) {
      Packed expected = model.apply(steps_[i], static_cast<int>(i + 1));
      after.push_back(model);
      auto answer = client_->answers().find(i + 1);
      if (answer == client_->answers().end()) break;  // it was not begun
      RC_ASSERT(answer->second.code == 0);
      if (only_looks(steps_[i].kind)) continue;
      RC_ASSERT(answer->second.result == expected);
    }
    check_looks(after);
    auto there = Store::open(server_.segment.segment(), kSpace).value().all({}).value();
    const std::deque<Tuple>& expected = after[std::min(after.size() - 1, client_->answers().size())].tuples();
    RC_ASSERT(there.size() == expected.size());
    for (size_t i = 0; i < there.size(); ++i) RC_ASSERT(identical(there[i], expected[i]));
  }

 private:
  // What only looks may have been done again: it saw what there was at some moment from its place in order on.
  void check_looks(std::vector<Model>& after) {
    for (const auto& [number, answer] : client_->answers()) {
      const Step& step = steps_[number - 1];
      if (!only_looks(step.kind)) continue;
      RC_ASSERT(std::any_of(after.begin() + static_cast<long>(number) - 1, after.end(),
                            [&, &seen = answer](Model& model) { return model.apply(step, 0) == seen.result; }));
    }
  }
  void revive() {
    if (server_.has_ended()) server_.start();
  }
  void happen(int what) {
    revive();
    if (what == 0) server_.kill(), server_.start();
    if (what == 1) server_.kill(), server_.start("clients.before_commit:2");
    if (what == 2) server_.kill(), server_.start("clients.after_commit:2");
    if (what == 3) client_->resend();
    if (what == 4) client_->hear(5);
    if (what == 5 && !late_.empty()) client_->send(late_.front()), late_.pop_front();
    if (what == 6) client_->connect();
  }

  const std::vector<Step>& steps_;
  ClientsServer server_;
  CommunityKey key_;
  std::optional<RawClient> client_;
  std::deque<Packed> late_;
};

}  // namespace
}  // namespace godwit::testing

namespace rc {
using namespace godwit::testing;
template <>
struct Arbitrary<Step> {
  static Gen<Step> arbitrary() {
    return gen::construct<Step>(gen::cast<Kind>(gen::inRange(0, 7)), gen::inRange(0, kKeys));
  }
};
template <>
struct Arbitrary<Mishap> {
  static Gen<Mishap> arbitrary() {
    auto seldom = gen::map(gen::inRange(0, 6), [](int n) { return n == 0; });
    return gen::construct<Mishap>(gen::inRange(0, 8), seldom, seldom, seldom, gen::inRange(0, 30));
  }
};
}  // namespace rc

namespace godwit::testing {
namespace {

// The thread has a standing in the segment of each case, of which tsan bears 64.
[[maybe_unused]] const int few_cases = setenv("RC_PARAMS", "max_success=40", 0);

RC_GTEST_PROP(Once, EveryRequestTakesEffectOnceAndInOrder, ()) {
  auto steps = *rc::gen::container<std::vector<Step>>(60, rc::gen::arbitrary<Step>());
  auto mishaps = *rc::gen::container<std::vector<Mishap>>(16, rc::gen::arbitrary<Mishap>());
  Run run(steps);
  run.go(mishaps);
  run.check();
}

}  // namespace
}  // namespace godwit::testing
