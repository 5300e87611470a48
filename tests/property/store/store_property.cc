// A space does what a list of tuples does, oldest first; whatever is put, asked for and moved. And concurrent processes
// hand every tuple to exactly one of them, in an order that a list allows.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <deque>

#include "tests/support/audit.hh"
#include "tests/support/space.hh"
#include "tests/support/tuple_generator.hh"
#include "tuplespace/match.hh"

namespace godwit::testing {
namespace {

using namespace rc;

// Few values, so that templates find something; the odd ones among them.
Gen<Field> any_value() {
  return gen::oneOf(
      gen::element<Field>("a", "b", "", 0, 1, 2, 1.0, 0.0, -0.0, true, false, Field(), Bytes{"a"}, Bytes{""}, Tuple{}, Tuple{1, "a"},
                          Tuple{Tuple{1}}),
      godwit::test::any_field(2));
}

Gen<Tuple> any_small_tuple() {
  return gen::map(gen::scale(0.03, gen::container<std::vector<Field>>(any_value())),
                  [](std::vector<Field> fields) { return Tuple(std::move(fields)); });
}

Gen<Pattern> any_small_pattern() {
  return gen::oneOf(gen::map(any_value(), [](Field value) { return Pattern(std::move(value)); }), gen::just(Pattern(AnyFormal{})),
                    gen::map(gen::inRange(0, 7), [](int type) { return Pattern(Formal{static_cast<Type>(type)}); }),
                    gen::element<Pattern>(Range{0, 1}, Range{0.0, 1.0}, Range{"a", "b"}, Prefix{"a"}, Prefix{Bytes{"a"}},
                                          OneOf{{1, "a", 1.0}}, Template{1, AnyFormal{}}, Template{Template{Formal{Type::kInt}}}));
}

Gen<Template> any_small_template() {
  return gen::map(gen::scale(0.03, gen::container<std::vector<Pattern>>(any_small_pattern())),
                  [](std::vector<Pattern> patterns) { return Template(std::move(patterns)); });
}

enum Kind {
  kOut, kOutMany, kIn, kInMany, kRd, kCount, kCollect, kCopyCollect,
  kOutWithin, kInWithin, kRdWithin, kCountWithin, kCommit, kRollBack, kKinds
};

struct Step {
  int kind;
  int space;
  Tuple tuple;
  Template wanted;
  int number;
};

Gen<Step> any_step() {
  return gen::map(gen::tuple(gen::inRange(0, static_cast<int>(kKinds)), gen::inRange(0, 2), any_small_tuple(), any_small_template(),
                             gen::inRange(0, 150)),
                  [](const auto& t) { return Step{std::get<0>(t), std::get<1>(t), std::get<2>(t), std::get<3>(t), std::get<4>(t)}; });
}

// A tuple and its place in the order of all that ever came.
struct Aged {
  uint64_t age;
  Tuple tuple;
};
using Model = std::deque<Aged>;
uint64_t model_age = 0;

std::optional<Aged> model_get(Model& model, const Template& wanted, bool takes) {
  for (auto it = model.begin(); it != model.end(); ++it) {
    if (!match(wanted, it->tuple)) continue;
    Aged found = *it;
    if (takes) model.erase(it);
    return found;
  }
  return std::nullopt;
}

uint64_t model_count(const Model& model, const Template& wanted) {
  return static_cast<uint64_t>(std::count_if(model.begin(), model.end(), [&](const Aged& one) { return match(wanted, one.tuple); }));
}

uint64_t model_collect(Model& from, Model& to, const Template& wanted, bool copies) {
  Model stay;
  uint64_t moved = 0;
  for (Aged& one : from) {
    bool matches = match(wanted, one.tuple);
    moved += matches;
    if (matches) to.push_back({++model_age, one.tuple});
    if (!matches || copies) stay.push_back(one);
  }
  from = std::move(stay);
  return moved;
}

bool same(const std::optional<Tuple>& a, const std::optional<Aged>& b) {
  return a.has_value() == b.has_value() && (!a || identical(*a, b->tuple));
}

// Many tuples of a shape, so that indexes are made, grow and shrink.
Tuple one_of_many(int i) { return Tuple{i % 3 ? "k" : "l", i % 50, static_cast<double>(i % 7)}; }
Template wanted_of_many(int i) {
  Tuple tuple = one_of_many(i);
  switch (i % 4) {
    case 0: return Template{tuple[0], tuple[1], Formal{Type::kFloat}};
    case 1: return Template{Formal{Type::kString}, tuple[1], tuple[2]};
    case 2: return Template{AnyFormal{}, AnyFormal{}, tuple[2]};
    default: return Template{tuple[0], AnyFormal{}, tuple[2]};
  }
}

class Pair {
 public:
  explicit Pair(TestSegment& test)
      : desk_(**store::Desk::of(test.segment())),
        spaces_{Store::create(test.segment(), "one", {}).value(), Store::create(test.segment(), "two", {}).value()},
        transaction_(*store::begin_transaction(desk_)) {}

  void take(const Step& step) {
    Store &space = spaces_[step.space], &other = spaces_[1 - step.space];
    Model &model = models_[step.space], &other_model = models_[1 - step.space];
    switch (step.kind) {
      case kOut: return out_one(space, model, step.tuple);
      case kOutMany:
        for (int i = 0; i < step.number; ++i) out_one(space, model, one_of_many(i));
        return;
      case kIn: return get_one(space, model, step.wanted, true);
      case kInMany:
        for (int i = 0; i < step.number; ++i) get_one(space, model, wanted_of_many(step.number * 7 + i), true);
        return;
      case kRd: return get_one(space, model, step.number % 2 ? step.wanted : Template(step.tuple), false);
      case kCount: return RC_ASSERT(space.count(AnyOf({step.wanted}).wanted()).value() == model_count(model, step.wanted));
      case kOutWithin: return put_within(step);
      case kInWithin: return get_within(step, step.number % 2 ? step.wanted : wanted_of_many(step.number), true);
      case kRdWithin: return get_within(step, step.wanted, false);
      case kCountWithin: {
        uint64_t expected = model_count(model, step.wanted) + model_count(puts_[step.space], step.wanted);
        return RC_ASSERT(space.count_within(transaction_, AnyOf({step.wanted}).wanted()).value() == expected);
      }
      case kCommit: return commit();
      case kRollBack: return roll_back();
      default: {
        bool copies = step.kind == kCopyCollect;
        Template wanted = step.number % 2 ? step.wanted : wanted_of_many(step.number);
        AnyOf any_of({wanted});
        auto moved = copies ? space.copy_collect(other, any_of.wanted()) : space.collect(other, any_of.wanted());
        RC_ASSERT(moved.value() == model_collect(model, other_model, wanted, copies));
      }
    }
  }

  void empty() {
    roll_back();
    for (int i : {0, 1})
      while (!models_[i].empty()) {
        std::vector<Pattern> anything(models_[i].front().tuple.arity(), Pattern(AnyFormal{}));
        get_one(spaces_[i], models_[i], Template(std::move(anything)), true);
      }
  }

 private:
  void out_one(Store& space, Model& model, const Tuple& tuple) {
    RC_ASSERT(put(space, tuple).has_value());
    model.push_back({++model_age, tuple});
  }
  void get_one(Store& space, Model& model, const Template& wanted, bool takes) {
    RC_ASSERT(same(get(space, takes ? &Store::in : &Store::rd, AnyOf({wanted})), model_get(model, wanted, takes)));
  }

  void put_within(const Step& step) {
    RC_ASSERT(spaces_[step.space].out_within(transaction_, views_of(step.tuple)).has_value());
    puts_[step.space].push_back({++model_age, step.tuple});
  }
  void get_within(const Step& step, const Template& wanted, bool takes) {
    std::optional<Tuple> got;
    auto get = takes ? &Store::in_within : &Store::rd_within;
    auto done = (spaces_[step.space].*get)(transaction_, AnyOf({wanted}).wanted(), nullptr,
                                           [&](TupleView tuple) { return got = to_tuple(tuple), true; });
    RC_ASSERT(done.has_value());
    auto expected = model_get(models_[step.space], wanted, takes);
    if (expected && takes) taken_[step.space].push_back(*expected);
    if (!expected) expected = model_get(puts_[step.space], wanted, takes);
    RC_ASSERT(same(got, expected));
  }
  void commit() {
    RC_ASSERT(!store::commit(desk_, transaction_));
    for (int i : {0, 1}) {
      for (Aged& put : puts_[i]) models_[i].push_back({++model_age, put.tuple});
      puts_[i].clear(), taken_[i].clear();
    }
  }
  void roll_back() {
    RC_ASSERT(store::roll_back(desk_, transaction_));
    for (int i : {0, 1}) {
      models_[i].insert(models_[i].end(), taken_[i].begin(), taken_[i].end());
      std::sort(models_[i].begin(), models_[i].end(), [](const Aged& a, const Aged& b) { return a.age < b.age; });
      puts_[i].clear(), taken_[i].clear();
    }
  }

  store::Desk& desk_;
  Store spaces_[2];
  Model models_[2], puts_[2], taken_[2];
  store::Transaction& transaction_;
};

RC_GTEST_PROP(Store, DoesWhatAListOfTuplesDoes, ()) {
  static TestSegment test;
  store::Desk& desk = **store::Desk::of(test.segment());
  auto steps = *gen::container<std::vector<Step>>(any_step());
  Pair pair(test);
  for (const Step& step : steps) pair.take(step);
  pair.empty();
  expect_all_memory_back(desk);
}

RC_GTEST_PROP(Encoding, KeepsTuplesAndTemplatesAndMatchesAlike, ()) {
  Tuple tuple = *godwit::test::any_tuple();
  Template wanted = *gen::oneOf(godwit::test::any_template(), gen::just(Template(tuple)), any_small_template());
  auto views = views_of(tuple);
  std::string bytes(store::encoded_size(views), 0);
  RC_ASSERT(store::encode_to(bytes.data(), views) == bytes.data() + bytes.size());
  store::Fields fields;
  RC_ASSERT(fields.read(bytes));
  RC_ASSERT(identical(to_tuple(fields.view()), tuple));
  AnyOf any_of({wanted});
  bool expected = match(wanted, tuple);
  RC_ASSERT(match(any_of.wanted()[0], fields.view()) == expected);
  std::string waiting = store::encode_wanted(any_of.wanted());
  RC_ASSERT(store::match_encoded(waiting, fields.view()) == std::optional<bool>(expected));
  RC_ASSERT(identical(store::decode_wanted(waiting)[0], wanted));
}

RC_GTEST_PROP(Encoding, OfGarbageIsRefusedOrRead, (const std::vector<char>& garbage)) {
  std::string_view bytes(garbage.data(), garbage.size());
  store::Fields fields;
  if (fields.read(bytes)) RC_ASSERT(fields.view().size() <= bytes.size());
  (void)store::match_encoded(bytes, fields.view());
  (void)store::decode_wanted(bytes);
}

}  // namespace
}  // namespace godwit::testing
