// Any operations on two durable spaces and one that is not, with restarts of the node and of the host: what a model says.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>

#include "tests/support/durable_host.hh"
#include "tuplespace/store/durability.hh"

namespace godwit::testing {
namespace {

using Texts = std::vector<std::string>;
const AnyOf kAny{"(?int, ?int)"};

// Tuples (KEY, NUMBER), in order.
using Model = std::map<std::string, std::vector<std::pair<int, int>>>;

class Run {
 public:
  Run() {
    for (const char* name : kNames) host_.create(name, durable(name));
    for (const char* name : kNames) model_[name];
  }

  void step() {
    switch (*rc::gen::inRange(0, 9)) {
      case 0: case 1: return put();
      case 2: return take();
      case 3: return put_several();
      case 4: return swap();
      case 5: return collect();
      case 6: return transact();
      case 7: return lease();
      default: return restart();
    }
  }
  void check() {
    for (const char* name : kNames) {
      Texts expected;
      for (auto [key, number] : model_[name]) expected.push_back(to_text(Tuple{key, number}));
      RC_ASSERT(host_.tuples(name) == expected);
    }
  }

 private:
  static constexpr const char* kNames[] = {"d", "e", "v"};
  static bool durable(std::string_view name) { return name != "v"; }
  static const char* any_space() { return kNames[*rc::gen::inRange(0, 3)]; }
  std::pair<int, int> any_tuple() { return {*rc::gen::inRange(0, 3), ++last_}; }
  static Tuple tuple_of(std::pair<int, int> one) { return {one.first, one.second}; }
  static AnyOf of_key(int key) { return AnyOf("(" + std::to_string(key) + ", ?int)"); }

  // The oldest of that key; end: there is none.
  static auto oldest(std::vector<std::pair<int, int>>& all, int key) {
    return std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.first == key; });
  }

  void put() {
    const char* name = any_space();
    auto one = any_tuple();
    Store store = host_.open(name);
    RC_ASSERT(testing::put(store, tuple_of(one)).has_value());
    model_[name].push_back(one);
  }
  void take() {
    const char* name = any_space();
    int key = *rc::gen::inRange(0, 3);
    Store store = host_.open(name);
    auto got = get(store, &Store::in, of_key(key));
    auto& all = model_[name];
    auto expected = oldest(all, key);
    RC_ASSERT(got.has_value() == (expected != all.end()));
    if (!got) return;
    RC_ASSERT(to_text(*got) == to_text(tuple_of(*expected)));
    all.erase(expected);
  }
  void put_several() {
    const char* name = any_space();
    std::vector<Tuple> several;
    for (int i = *rc::gen::inRange(0, 4); i > 0; --i) {
      model_[name].push_back(any_tuple());
      several.push_back(tuple_of(model_[name].back()));
    }
    RC_ASSERT(host_.open(name).out_all(several).has_value());
  }
  void swap() {
    const char* name = any_space();
    auto one = any_tuple();
    Tuple tuple = tuple_of(one);
    auto& all = model_[name];
    auto expected = oldest(all, one.first);
    bool happened = host_.open(name).out_if(Store::Condition::kInstead, of_key(one.first).wanted(), views_of(tuple)).value();
    RC_ASSERT(happened == (expected != all.end()));
    if (!happened) return;
    all.erase(expected);
    all.push_back(one);
  }
  void collect() {
    const char *from = any_space(), *to = any_space();
    if (from == to) return;
    int key = *rc::gen::inRange(0, 3);
    bool copies = *rc::gen::arbitrary<bool>();
    Store a = host_.open(from), b = host_.open(to);
    RC_ASSERT((copies ? a.copy_collect(b, of_key(key).wanted()) : a.collect(b, of_key(key).wanted())).has_value());
    auto all = model_[from];
    for (auto one : all)
      if (one.first == key) model_[to].push_back(one);
    if (!copies) std::erase_if(model_[from], [&](const auto& one) { return one.first == key; });
  }
  void transact() {
    store::Desk& desk = **store::Desk::of(host_.segment());
    store::Transaction& transaction = *store::begin_transaction(desk);
    Model before = model_;
    Model puts;
    for (int i = *rc::gen::inRange(1, 5); i > 0; --i) {
      const char* name = any_space();
      if (*rc::gen::arbitrary<bool>()) {
        auto one = any_tuple();
        Tuple tuple = tuple_of(one);
        RC_ASSERT(host_.open(name).out_within(transaction, views_of(tuple)).has_value());
        puts[name].push_back(one);
      } else if (!model_[name].empty()) {
        RC_ASSERT(host_.open(name).in_within(transaction, kAny.wanted(), nullptr, [](TupleView) { return true; }).value());
        model_[name].erase(model_[name].begin());
      }
    }
    if (*rc::gen::arbitrary<bool>()) {
      RC_ASSERT(Store::commit(host_.segment(), transaction).has_value());
      for (auto& [name, all] : puts) model_[name].insert(model_[name].end(), all.begin(), all.end());
    } else {
      model_ = before;
    }
    RC_ASSERT(store::end_transaction(desk, *desk.bench, transaction));
  }
  // Taken for a time: acknowledged, given back, or still taken when something restarts.
  void lease() {
    const char* name = any_space();
    if (model_[name].empty()) return;
    Store store = host_.open(name);
    auto delivery = store.in_for(std::chrono::hours(1), kAny.wanted(), nullptr, [](TupleView) { return true; }).value();
    switch (*rc::gen::inRange(0, 3)) {
      case 0:
        RC_ASSERT(store.acknowledge(*delivery).value());
        model_[name].erase(model_[name].begin());
        break;
      case 1: RC_ASSERT(store.release(*delivery, {}).value()); break;
      default: restart_host();
    }
  }
  void restart() {
    if (*rc::gen::arbitrary<bool>()) host_.restart_node();
    else restart_host();
  }
  void restart_host() {
    host_.restart();
    host_.create("v", false);
    model_["v"].clear();
  }

  DurableHost host_{{.snapshot_bytes = 2000}};
  Model model_;
  int last_ = 0;
};

RC_GTEST_PROP(SpaceLogProperty, IsWhatWasDone, ()) {
  Run run;
  for (int steps = *rc::gen::inRange(1, 40); steps > 0; --steps) {
    run.step();
    run.check();
  }
}

}  // namespace
}  // namespace godwit::testing
