// Programs on a host and elsewhere that use its spaces by turns see what a list of tuples shows them.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <deque>

#include "tests/support/client_key.hh"
#include "tests/support/tuple_generator.hh"
#include "tuplespace/match.hh"
#include "tuplespace/space.hh"
#include "tuplespace/transaction.hh"

namespace godwit {
namespace {

using namespace rc;
using namespace std::chrono_literals;

enum Kind {
  kOut, kOutAsync, kOutUnique, kSwap, kInp, kIn, kRd, kCount, kCollect, kCopyCollect,
  kLease, kAcknowledge, kRelease, kOutWithin, kInWithin, kRdWithin, kCountWithin, kCommit, kRollBack, kKinds
};

struct Step {
  int kind, who, space;
  Tuple tuple;
  Template wanted;
};

Gen<Field> any_value() {
  return gen::oneOf(gen::element<Field>("a", "", 0, 1, 1.0, -0.0, true, Field(), Bytes{"a"}, Tuple{1, "a"}), test::any_field(2));
}
Gen<Tuple> any_small_tuple() {
  return gen::oneOf(gen::element(Tuple{"a", 1}, Tuple{"a", 2}, Tuple{"b", 1}),
                    gen::map(gen::scale(0.03, gen::container<std::vector<Field>>(any_value())),
                             [](std::vector<Field> fields) { return Tuple(std::move(fields)); }));
}
Gen<Template> any_small_template() {
  return gen::oneOf(gen::element(Template{"a", AnyFormal{}}, Template{AnyFormal{}, Range{1, 2}}, Template{Formal{Type::kString}, 1},
                                 Template{OneOf{{"a", "b"}}, AnyFormal{}}, Template{Prefix{"a"}, AnyFormal{}}),
                    gen::map(any_small_tuple(), [](const Tuple& tuple) { return Template(tuple); }), test::any_template(2));
}
Gen<Step> any_step() {
  return gen::map(gen::tuple(gen::inRange(0, static_cast<int>(kKinds)), gen::inRange(0, 3), gen::inRange(0, 2), any_small_tuple(), any_small_template()),
                  [](const auto& t) { return Step{std::get<0>(t), std::get<1>(t), std::get<2>(t), std::get<3>(t), std::get<4>(t)}; });
}

// A tuple and its place in the order of all that ever came.
struct Aged {
  uint64_t age;
  Tuple tuple;
};

class Model {
 public:
  void put(Tuple tuple) { tuples_.push_back({++last_, std::move(tuple)}); }
  void put_back(Aged one) {
    auto place = std::find_if(tuples_.begin(), tuples_.end(), [&](const Aged& other) { return other.age > one.age; });
    tuples_.insert(place, std::move(one));
  }
  std::optional<Aged> get(const Template& wanted, bool takes) {
    for (auto it = tuples_.begin(); it != tuples_.end(); ++it) {
      if (!match(wanted, it->tuple)) continue;
      Aged found = *it;
      if (takes) tuples_.erase(it);
      return found;
    }
    return std::nullopt;
  }
  uint64_t count(const Template& wanted) const {
    return static_cast<uint64_t>(std::count_if(tuples_.begin(), tuples_.end(), [&](const Aged& one) { return match(wanted, one.tuple); }));
  }
  uint64_t collect(Model& to, const Template& wanted, bool copies) {
    uint64_t number = 0;
    std::deque<Aged> stay;
    for (Aged& one : tuples_) {
      bool matches = match(wanted, one.tuple);
      number += matches;
      if (matches) to.put(one.tuple);
      if (!matches || copies) stay.push_back(std::move(one));
    }
    tuples_ = std::move(stay);
    return number;
  }
  const std::deque<Aged>& tuples() const { return tuples_; }

 private:
  static inline uint64_t last_ = 0;
  std::deque<Aged> tuples_;
};

bool same(const std::optional<Tuple>& a, const std::optional<Aged>& b) {
  return a.has_value() == b.has_value() && (!a || identical(*a, b->tuple));
}

// The same host, as it is used there, and by two keys.
struct Homes {
  Homes() {
    setenv("GODWIT_EXECUTABLE", GODWIT_BINARY, 1);
    GODWIT_CHECK(test::start_node_for_clients(host).status == 0);
    all = {host.home(), test::client_key(host, "alice"), test::client_key(host, "bob")};
  }
  test::TestHost host{"there"};
  std::vector<std::string> all;
};

class World {
 public:
  explicit World(const std::vector<std::string>& homes) : home_(homes[0]), transaction_(homes[1]) {
    for (const char* name : kNames) {
      Space::create(name, {}, homes[0]);
      for (const std::string& home : homes) spaces_[name == kNames[1]].emplace_back(name, home);
    }
  }
  ~World() {
    for (const char* name : kNames) Space::drop(name, home_);
  }

  void take(const Step& step) {
    Space& space = spaces_[step.space][static_cast<size_t>(step.who)];
    Space& other = spaces_[1 - step.space][static_cast<size_t>(step.who)];
    Model &model = models_[step.space], &other_model = models_[1 - step.space];
    bool is_there = model.count(step.wanted) > 0;
    switch (step.kind) {
      case kOut: return space.out(step.tuple), model.put(step.tuple);
      case kOutAsync: return space.out_async(step.tuple).get(), model.put(step.tuple);
      case kOutUnique:
        RC_ASSERT(space.out_unique(step.wanted, step.tuple) == !is_there);
        if (!is_there) model.put(step.tuple);
        return;
      case kSwap:
        RC_ASSERT(space.swap(step.wanted, step.tuple) == is_there);
        if (is_there) (void)model.get(step.wanted, true), model.put(step.tuple);
        return;
      case kInp: return RC_ASSERT(same(space.inp(step.wanted), model.get(step.wanted, true)));
      case kIn:
        if (!is_there) return;
        return RC_ASSERT(same(space.in(1h, step.wanted), model.get(step.wanted, true)));
      case kRd: return RC_ASSERT(same(space.rdp(step.wanted), model.get(step.wanted, false)));
      case kCount: return RC_ASSERT(space.count(step.wanted) == model.count(step.wanted));
      case kCollect: return RC_ASSERT(space.collect(other, step.wanted) == model.collect(other_model, step.wanted, false));
      case kCopyCollect: return RC_ASSERT(space.copy_collect(other, step.wanted) == model.collect(other_model, step.wanted, true));
      case kLease: return lease(space, step.space);
      case kAcknowledge: return end_lease(true);
      case kRelease: return end_lease(false);
      default: return within(step);
    }
  }

  void empty() {
    roll_back();
    end_lease(false);
    for (int i : {0, 1})
      for (const Aged& one : models_[i].tuples()) RC_ASSERT(spaces_[i][2].inp(Template(std::vector<Pattern>(one.tuple.arity(), Pattern(AnyFormal{})))).has_value());
  }

 private:
  static constexpr const char* kNames[] = {"one", "two"};

  void lease(Space& space, int number) {
    if (leased_) return;
    auto wanted = Template{"a", Formal{Type::kInt}};
    auto got = space.inp_for(1h, "a", formal<int>);
    auto expected = models_[number].get(wanted, true);
    RC_ASSERT(got.has_value() == expected.has_value());
    if (!got) return;
    RC_ASSERT(std::get<0>(**got) == *expected->tuple[1].get<int64_t>());
    leased_.emplace(std::move(*got));
    leased_tuple_ = {number, *expected};
  }
  void end_lease(bool acknowledges) {
    if (!leased_) return;
    if (acknowledges) leased_->acknowledge();
    else leased_->release(), models_[leased_tuple_.first].put_back(leased_tuple_.second);
    leased_.reset();
  }

  void within(const Step& step) {
    Model &model = models_[step.space], &puts = puts_[step.space];
    if (step.kind == kCommit) return commit();
    if (step.kind == kRollBack) return roll_back();
    Space space = transaction_.of(spaces_[step.space][1]);
    if (step.kind == kOutWithin) return space.out(step.tuple), puts.put(step.tuple);
    if (step.kind == kCountWithin) return RC_ASSERT(space.count(step.wanted) == model.count(step.wanted) + puts.count(step.wanted));
    bool takes = step.kind == kInWithin;
    auto got = takes ? space.inp(step.wanted) : space.rdp(step.wanted);
    auto expected = model.get(step.wanted, takes);
    if (expected && takes) taken_[step.space].push_back(*expected);
    if (!expected) expected = puts.get(step.wanted, takes);
    RC_ASSERT(same(got, expected));
  }
  void commit() {
    transaction_.commit();
    for (int i : {0, 1}) {
      for (const Aged& put : puts_[i].tuples()) models_[i].put(put.tuple);
      puts_[i] = {}, taken_[i] = {};
    }
  }
  void roll_back() {
    transaction_.roll_back();
    for (int i : {0, 1}) {
      for (Aged& one : taken_[i]) models_[i].put_back(one);
      puts_[i] = {}, taken_[i] = {};
    }
  }

  const std::string home_;
  std::vector<Space> spaces_[2];
  Model models_[2], puts_[2];
  std::vector<Aged> taken_[2];
  Transaction transaction_;
  std::optional<Leased<std::tuple<int64_t>>> leased_;
  std::pair<int, Aged> leased_tuple_;
};

RC_GTEST_PROP(Remote, IsTheSameListOfTuplesHereAndElsewhere, ()) {
  static Homes homes;
  auto steps = *gen::container<std::vector<Step>>(any_step());
  World world(homes.all);
  for (const Step& step : steps) world.take(step);
  world.empty();
}

}  // namespace
}  // namespace godwit
