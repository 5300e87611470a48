// Each operation on spaces is killed after its first instruction, after its second, and so on to its last (long ones: at
// evenly spread ones). Each time it has happened wholly or not at all, nobody waits in vain, and in the end all memory
// is back.
#include <cstdio>
#include <thread>

#include "tests/support/audit.hh"
#include "tests/support/single_step.hh"
#include "tests/support/space.hh"
#include "tuplespace/durable/survivors.hh"
#include "tuplespace/store/durability.hh"
#include "tuplespace/store/groups.hh"
#include "tuplespace/store/leases.hh"
#include "tuplespace/store/root.hh"

namespace godwit::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kBudget = 20'000, kEvery = 20'000;
#else
constexpr uint64_t kBudget = 100'000;  // single steps of one operation
constexpr uint64_t kEvery = 900'000;   // of a short one: every instruction or so
#endif

class StoreSingleStep : public ::testing::Test {
 protected:
  explicit StoreSingleStep(uint64_t size = 1ull << 30) : test(size) {}
  TestSegment test;
  Store a = Store::create(test.segment(), "a", {}).value(), b = Store::create(test.segment(), "b", {}).value();
  store::Desk& desk = **store::Desk::of(test.segment());

  ~StoreSingleStep() override { expect_all_memory_back(desk); }

  // A member does the operation, and is killed after so many instructions of it. returns how many it took.
  template <class F>
  uint64_t kill_after(uint64_t limit, F operation) {
    Victim member([&] {
      store::Desk& own = **store::Desk::of(test.segment());
      own.waits_for_disk = waits_for_disk_;
      // Its caches filled and its code seen once; what is stepped begins with the operation.
      for (Store* space : {&a, &b}) {
        (void)space->out(warm_);
        (void)space->in(any_warm_.wanted(), nullptr, [](TupleView) { return true; });
      }
      (void)store::requests_of(own);
      Victim::act([&] { operation(own); });
    });
    uint64_t steps = member.kill_after(limit).instructions;
    if (reaps_) store::reap(desk);
    return steps;
  }

  // prepare() before each try, check() after it.
  template <class P, class F, class C>
  void step_through(const char* name, P prepare, F operation, C check, uint64_t budget = kBudget) {
    prepare();
    uint64_t length = kill_after(~0ull, operation);
    check();
    uint64_t stride = std::max<uint64_t>(1, length * length / 2 / budget), tries = 0;
    for (uint64_t limit = 0; limit <= length && !HasFailure(); limit += stride, ++tries) {
      prepare();
      kill_after(limit, operation);
      check();
      if (HasFailure()) fprintf(stderr, "%s: after %lu instructions\n", name, limit);
    }
    printf("%s: %lu instructions, killed after %lu of them\n", name, length, tries);
  }

  bool reaps_ = true, waits_for_disk_ = true;
  const Tuple seven_tuple_ = item(7);
  const std::vector<FieldView> seven_ = views_of(seven_tuple_);
  const Tuple warm_tuple_ = item(-2);
  const std::vector<FieldView> warm_ = views_of(warm_tuple_);
  const AnyOf any_warm_{"(\"k\", -2, ?bytes)"}, any_three_{"(\"k\", 3, ?bytes)"}, any_item_{"(\"k\", ?int, ?bytes)"};

  static Tuple item(int i) { return Tuple{"k", i, Bytes{std::string(64, 'x')}}; }
  uint64_t total(std::string_view wanted) { return count(a, wanted) + count(b, wanted); }
};

TEST_F(StoreSingleStep, Out) {
  step_through("out", [] {}, [&](store::Desk&) { (void)a.out(seven_); },
               [&] {
                 EXPECT_LE(count(a, "(\"k\", 7, ?bytes)"), 1u);
                 while (inp(a, "(?, ?, ?)") != "absent") {
                 }
               }, kEvery);
}

TEST_F(StoreSingleStep, In) {
  auto prepare = [&] {
    if (count(a, "(\"k\", 3, ?)") == 0) out(a, item(3));
  };
  auto take = [&](store::Desk&) { (void)a.in(any_three_.wanted(), nullptr, [](TupleView) { return true; }); };
  auto check = [&] { EXPECT_LE(count(a, "(\"k\", ?, ?)"), 1u); };
  step_through("in", prepare, take, check, kEvery);
}

TEST_F(StoreSingleStep, FillingAndFlushingTheCaches) {
  step_through("refill and flush", [] {},
               [&](store::Desk& own) {
                 store::flush_all(own, *own.bench);
                 (void)a.out(seven_);
                 store::flush_all(own, *own.bench);
               },
               [&] {
                 EXPECT_LE(count(a, "(\"k\", 7, ?)"), 1u);
                 (void)inp(a, "(\"k\", 7, ?)");
               });
}

TEST_F(StoreSingleStep, OutAndSplitOfABucket) {
  for (int i = 100; i < 300; ++i) out(a, item(i));
  (void)rdp(a, "(\"k\", 299, ?)");  // makes the index
  store::Root& root = *store::open_space(desk, "a")->root;
  std::vector<FieldView> first = {FieldView::string("k")};
  store::Stripe& stripe = root.stripes[store::stripe_of(root, first)];
  int next = 300;
  step_through("out and split", [&] { while (stripe.leaders < stripe.buckets) out(a, item(next++)); },
               [&](store::Desk&) { (void)a.out(seven_); },
               [&] {
                 EXPECT_LE(count(a, "(\"k\", 7, ?)"), 1u);
                 (void)inp(a, "(\"k\", 7, ?)");
                 EXPECT_EQ(rdp(a, "(\"k\", 100, ?)").substr(0, 9), "(\"k\", 100");
               });
}

// So many keys of one bucket that splitting it takes several transactions.
TEST_F(StoreSingleStep, SplittingALongChain) {
  a = Store::create(test.segment(), "single", {512 << 20, false}).value();
  for (int i = -100; i < 0; ++i) out(a, item(i));
  (void)rdp(a, "(\"k\", -1, ?)");  // makes the index
  store::Stripe& stripe = store::open_space(desk, "single")->root->stripes[0];
  store::Shape* shape = nullptr;
  store::for_each_shape(desk, stripe, [&](store::Ref, store::Shape& one) { shape = &one; });
  std::vector<int> keys;
  for (int i = 0; keys.size() < 150; ++i) {
    FieldView second = FieldView::of(int64_t{i});
    if ((store::make_key(*shape, 0, FieldView::string("k"), &second).hash >> 2) % 64 == 40) keys.push_back(i);
  }
  int next = 1'000'000;
  auto fill = [&] {
    for (int key : keys) out(a, item(key));
    while (stripe.buckets < 64 + 40) out(a, item(next++));
  };
  auto grow = [&](store::Desk&) {
    for (int i = 0; i < 4; ++i) (void)a.out(seven_);
  };
  step_through("splitting a long chain", fill, grow, [&] {
    for (int key : keys) ASSERT_TRUE(get(a, &Store::in, AnyOf({Template{"k", key, Formal{Type::kBytes}}}))) << key;
    while (inp(a, "(\"k\", 7, ?)") != "absent") {
    }
    while (inp(a, "(\"k\", 1000000..9999999, ?)") != "absent") {
    }
  });
}

TEST_F(StoreSingleStep, JoiningAndLeaving) {
  shared::Area* area = test.segment().area_of(0);
  step_through("join and leave", [] {},
               [&](store::Desk&) {
                 shared::Thread another;
                 another.segment = test.segment();
                 if (shared::claim_slot(another, area) == 0) shared::release_slot(another);
               },
               [&] { EXPECT_LE(area->slot_count.load(), 4u); });  // no slot is lost
}

class StoreSingleStepInLittle : public StoreSingleStep {
 protected:
  StoreSingleStepInLittle() : StoreSingleStep(24ull << 20) {}
};

TEST_F(StoreSingleStepInLittle, MakingOneRunOfFreeOnes) {
  constexpr uint64_t kLarge = 1 << 20;
  auto in_pieces = [&] {
    while (put(a, Tuple{"piece", std::string(200 << 10, 'x')}).has_value()) {
    }
    while (inp(a, "(\"piece\", ?)") != "absent") {
    }
  };
  step_through("making one run", in_pieces,
               [&](store::Desk& own) {
                 shared::Offset run;
                 if (shared::allocate(own.self, kLarge, shared::RunKind::kTuple, 0, &run) == 0) shared::free_intent(own.self);
               },
               [&] {
                 EXPECT_TRUE(put(a, Tuple{"whole", std::string(kLarge, 'x')}).has_value());
                 EXPECT_NE(inp(a, "(\"whole\", ?)"), "absent");
               });
}

TEST_F(StoreSingleStep, MakingAnIndex) {
  int round = 0;
  auto fill = [&] {
    ++round;
    for (int i = 0; i < 60; ++i) out(a, Tuple{round, i, 1.5});
  };
  step_through("making an index", fill, [&](store::Desk&) { (void)rdp(a, "(?int, 59, ?float)"); },
               [&] {
                 EXPECT_EQ(inp(a, "(?int, 59, ?float)"), "(" + std::to_string(round) + ", 59, 1.5)");
                 while (inp(a, "(?, ?, ?)") != "absent") {
                 }
                 ASSERT_TRUE(store::drop_space(desk, "a").has_value());  // with its indexes
                 a = Store::create(test.segment(), "a", {}).value();
               });
}

TEST_F(StoreSingleStep, HandOverToABlockedRdAndIn) {
  std::atomic<int> answered = 0;
  std::thread reader, taker;
  step_through("hand-over",
               [&] {
                 answered = 0;
                 reader = std::thread([&] { answered += rd(a, "(\"k\", 7, ?)") != "absent"; });
                 taker = std::thread([&] { answered += in(a, "(?, 7, ?bytes)") != "absent"; });
                 while (store::list_spaces(desk)[0].waiters != 2) sched_yield();
               },
               [&](store::Desk&) { (void)a.out(seven_); },
               [&] {
                 // Both are answered or both wait, but for those who look for themselves just now.
                 while (answered < 2 && store::list_spaces(desk)[0].waiters < 2) sched_yield();
                 if (answered < 2) out(a, item(7));
                 reader.join();
                 taker.join();
                 EXPECT_EQ(answered, 2);
                 EXPECT_EQ(total("(?, ?, ?)"), 0u);
               });
}

TEST_F(StoreSingleStep, OutThatIsWatched) {
  auto watching = a.watch(AnyOf("(\"k\", 7, ?bytes)").wanted()).value();
  uint64_t seen = 0;
  auto check = [&] {
    uint64_t there = count(a, "(\"k\", 7, ?)");
    auto next = a.next(watching, nullptr, [](TupleView) {});
    seen += next && *next;
    EXPECT_EQ(next && *next, there == 1) << "it came and was seen, or neither";
    (void)inp(a, "(\"k\", 7, ?)");
  };
  step_through("watched out", [] {}, [&](store::Desk&) { (void)a.out(seven_); }, check);
  EXPECT_GT(seen, 0u);
  a.end_watch(watching);
}

TEST_F(StoreSingleStep, WatchingAndPassing) {
  auto operation = [&](store::Desk&) {
    auto watching = a.watch(any_item_.wanted()).value();
    (void)a.out(seven_);
    (void)a.in(any_item_.wanted(), nullptr, [](TupleView) { return true; });
    (void)a.next(watching, nullptr, [](TupleView) {});
    a.end_watch(watching);
  };
  auto check = [&] {
    EXPECT_LE(count(a, "(\"k\", 7, ?)"), 1u);
    (void)inp(a, "(\"k\", 7, ?)");
  };
  step_through("watch, out, in, pass, end", [] {}, operation, check);
}

TEST_F(StoreSingleStep, Requests) {
  auto prepare = [&] {
    if (count(a, "(\"k\", 3, ?)") == 0) out(a, item(3));
  };
  auto operation = [&](store::Desk&) {
    uint32_t there = a.request(store::Verb::kIn, any_three_.wanted(), 1).value();
    uint32_t comes = a.request(store::Verb::kIn, any_item_.wanted(), 1).value(), never = a.request(store::Verb::kRd, any_warm_.wanted(), 1).value();
    (void)a.out(seven_);
    (void)a.receive(there, [](TupleView) { return false; });
    (void)a.receive(comes, [](TupleView) { return true; });
    a.withdraw(never);
  };
  auto check = [&] {
    EXPECT_EQ(store::list_spaces(desk)[0].waiters, 0u);
    EXPECT_EQ(count(a, "(\"k\", 3, ?)"), 1u);
    EXPECT_LE(count(a, "(\"k\", 7, ?)"), 1u);
    (void)inp(a, "(\"k\", 7, ?)");
  };
  step_through("requests", prepare, operation, check, kEvery);
}

TEST_F(StoreSingleStep, SwapOfATuple) {
  auto prepare = [&] {
    while (inp(a, "(?, ?, ?)") != "absent") {
    }
    out(a, item(3));
  };
  auto swap = [&](store::Desk&) { (void)a.out_if(Store::Condition::kInstead, any_three_.wanted(), seven_); };
  step_through("swap", prepare, swap, [&] {
    EXPECT_EQ(count(a, "(?, ?, ?)"), 1u);
    EXPECT_EQ(count(a, "(\"k\", 3, ?)") + count(a, "(\"k\", 7, ?)"), 1u);
  });
}

TEST_F(StoreSingleStep, SeveralAtOneMoment) {
  const std::vector<Tuple> tuples = {Tuple{"x", 1}, Tuple{"y", 2}, Tuple{"z", 3}};
  reaps_ = false;
  step_through("out of several", [] {}, [&](store::Desk&) { (void)a.out_all(tuples); }, [&] {
    uint64_t there = count(a, "(?, ?)");
    EXPECT_TRUE(there == 0 || there == 3) << there;
    store::reap(desk);
    EXPECT_EQ(count(a, "(?, ?)"), there);
    while (inp(a, "(?, ?)") != "absent") {
    }
  });
}

TEST_F(StoreSingleStep, Leases) {
  using namespace std::chrono_literals;
  auto prepare = [&] {
    while (inp(a, "(?, ?, ?)") != "absent") {
    }
    out(a, item(3));
  };
  auto operation = [&](store::Desk&) {
    auto all = [](TupleView) { return true; };
    (void)a.out_for(1h, seven_);
    auto first = a.in_for(1h, any_three_.wanted(), nullptr, all).value();
    (void)a.release(*first, 0s);
    auto second = a.in_for(1h, any_three_.wanted(), nullptr, all).value();
    (void)a.extend(*second, 2h);
    (void)a.acknowledge(*second);
    auto mortal = a.in_for(1h, any_item_.wanted(), nullptr, all).value();
    (void)a.release(*mortal, 1h);
  };
  auto check = [&] {
    uint64_t three = count(a, "(\"k\", 3, ?)"), seven = count(a, "(\"k\", 7, ?)");
    EXPECT_LE(three, 1u);
    EXPECT_LE(seven, 1u);
    EXPECT_EQ(store::list_spaces(desk)[0].tuples, three + seven);
    for (store::Stripe& stripe : store::stripes_of(*store::open_space(desk, "a")->root))
      for (store::Ref ref = stripe.first_lease; ref; ref = desk.at<store::Lease>(ref).later) {
        store::Lease& lease = desk.at<store::Lease>(ref);
        EXPECT_EQ(lease.owner, 0u);
        if (lease.delivers) lease.due = 1;  // what was put off comes now
      }
    (void)store::expire(desk);
    EXPECT_LE(count(a, "(\"k\", 7, ?)"), 1u);
  };
  step_through("leases", prepare, operation, check, kEvery);
}

// Before anything is reaped whoever looks sees all of it or nothing.
TEST_F(StoreSingleStep, Transactions) {
  const Tuple tuples[] = {Tuple{"x", 1}, Tuple{"y", 2}, Tuple{"z", 3}};
  std::vector<FieldView> puts[] = {views_of(tuples[0]), views_of(tuples[1]), views_of(tuples[2])};
  auto prepare = [&] {
    while (inp(b, "(?, ?)") != "absent") {
    }
    for (int i = static_cast<int>(count(a, "(?, ?, ?)")); i < 2; ++i) out(a, item(i));
  };
  auto transact = [&](store::Desk& own, bool commits) {
    store::Transaction& transaction = *store::begin_transaction(own);
    for (int i = 0; i < 2; ++i) (void)a.in_within(transaction, any_item_.wanted(), nullptr, [](TupleView) { return true; });
    for (const auto& put : puts) (void)b.out_within(transaction, put);
    if (commits) (void)store::commit(own, transaction);
    (void)store::end_transaction(own, *own.bench, transaction);
  };
  reaps_ = false;
  auto check = [&] {
    uint64_t there = count(b, "(?, ?)"), left = count(a, "(?, ?, ?)");
    EXPECT_TRUE(there == 0 || there == 3) << there;
    EXPECT_TRUE(left == 0 || left == 2 || there == 0) << left;
    store::reap(desk);
    EXPECT_EQ(count(b, "(?, ?)"), there);
    EXPECT_EQ(count(a, "(?, ?, ?)"), there ? 0u : 2u);
  };
  step_through("commit", prepare, [&](store::Desk& own) { transact(own, true); }, check, kEvery);
  step_through("roll back", prepare, [&](store::Desk& own) { transact(own, false); }, check);
}

TEST_F(StoreSingleStep, Collect) {
  auto prepare = [&] {
    while (inp(b, "(?, ?, ?)") != "absent") {
    }
    for (int i = static_cast<int>(count(a, "(?, ?, ?)")); i < 3; ++i) {
      Tuple mortal = item(i);
      (void)a.out_for(std::chrono::hours(1), views_of(mortal));
    }
  };
  step_through("collect", prepare, [&](store::Desk&) { (void)a.collect(b, any_item_.wanted()); },
               [&] {
                 EXPECT_EQ(total("(\"k\", ?, ?)"), 3u);
                 EXPECT_EQ(count(b, "(\"k\", ?, ?)") % 3, 0u);
               });
  step_through("copy_collect", prepare, [&](store::Desk&) { (void)a.copy_collect(b, any_item_.wanted()); },
               [&] {
                 EXPECT_EQ(count(a, "(\"k\", ?, ?)"), 3u);
                 EXPECT_EQ(count(b, "(\"k\", ?, ?)") % 3, 0u);
               });
}

// Space a is durable; nobody writes the log, which is read here. What it comes to is what is there, whatever was killed.
class StoreSingleStepDurably : public StoreSingleStep {
 protected:
  StoreSingleStepDurably() {
    EXPECT_TRUE(store::begin_log(desk, 0, 0).has_value());
    EXPECT_TRUE(store::keep_from_now_on(desk, "a", store::Keeps::kAll, kId, 0).has_value());
    desk.waits_for_disk = waits_for_disk_ = false;
  }
  ~StoreSingleStepDurably() override {
    EXPECT_TRUE(store::keep_from_now_on(desk, "a", store::Keeps::kNothing, 0, 0).has_value());
    desk.header().log_space = 0;
  }

  void read_log() {
    auto records = Store::open(test.segment(), store::kLogSpace).value();
    static const AnyOf any{"(\"record\", ?bytes)"};
    while (auto record = get(records, &Store::in, any)) log_.push_back((*record)[1].get<Bytes>()->data);
  }
  std::vector<std::string> survivors() const {
    Survivors survivors;
    std::map<uint64_t, std::string> by_age;
    for_each_change([&](const store::Change& change) { survivors.note(change); });
    for_each_change([&](const store::Change& change) {
      bool is_new = !survivors.keeps(change) || by_age.emplace(change.age, to_text(to_tuple(store::fields_of(change.text).view()))).second;
      EXPECT_TRUE(is_new) << change.age;
    });
    std::vector<std::string> all;
    for (const auto& [age, text] : by_age) all.push_back(text);
    return all;
  }
  void check_log() {
    read_log();
    std::vector<std::string> there;
    auto all = a.all({});
    ASSERT_TRUE(all.has_value());
    for (const Tuple& tuple : *all) there.push_back(to_text(tuple));
    EXPECT_EQ(survivors(), there);
    while (inp(a, "(?, ?, ?)") != "absent" || inp(b, "(?, ?, ?)") != "absent") {
    }
    read_log();
    EXPECT_TRUE(survivors().empty());
    log_.clear();
  }
  template <class F>
  void step_durably(const char* name, F operation) {
    auto prepare = [&] {
      for (int i : {1, 2, 3}) out(a, item(i)), out(b, item(i));
    };
    step_through(name, prepare, operation, [&] { check_log(); }, 2 * kBudget);
  }

  static constexpr uint64_t kId = 1;

 private:
  void for_each_change(const std::function<void(const store::Change&)>& f) const {
    store::Record made;
    made.create(kId, "a", {});
    EXPECT_TRUE(store::for_each_change(made.take_bytes(), f));
    for (const std::string& record : log_) EXPECT_TRUE(store::for_each_change(record, f));
  }
  std::vector<std::string> log_;
};

TEST_F(StoreSingleStepDurably, OutAndIn) {
  step_durably("durable out", [&](store::Desk&) { (void)a.out(seven_); });
  step_durably("durable in", [&](store::Desk&) { (void)a.in(any_three_.wanted(), nullptr, [](TupleView) { return true; }); });
  step_durably("durable swap", [&](store::Desk&) { (void)a.out_if(Store::Condition::kInstead, any_three_.wanted(), seven_); });
}

TEST_F(StoreSingleStepDurably, TransactionsAndCollect) {
  step_durably("durable commit", [&](store::Desk& own) {
    store::Transaction& transaction = *store::begin_transaction(own);
    for (Store* space : {&a, &b}) (void)space->in_within(transaction, any_item_.wanted(), nullptr, [](TupleView) { return true; });
    for (Store* space : {&a, &b}) (void)space->out_within(transaction, seven_);
    (void)store::commit(own, transaction);
    (void)store::end_transaction(own, *own.bench, transaction);
  });
  step_durably("durable collect", [&](store::Desk&) { (void)a.collect(b, any_item_.wanted()); });
  step_durably("collect into durable", [&](store::Desk&) { (void)b.collect(a, any_item_.wanted()); });
}

TEST_F(StoreSingleStepDurably, Leases) {
  step_durably("durable lease", [&](store::Desk&) {
    auto delivery = a.in_for(std::chrono::hours(1), any_three_.wanted(), nullptr, [](TupleView) { return true; });
    if (delivery && *delivery) (void)a.acknowledge(**delivery);
  });
}

TEST_F(StoreSingleStep, CreateAndDropOfASpace) {
  step_through("create and drop", [] {},
               [&](store::Desk& own) {
                 if (auto space = Store::create(test.segment(), "c", {})) (void)put(*space, item(1));
                 (void)store::drop_space(own, "c");
               },
               [&] {
                 store::finish_drops(desk);
                 if (auto there = Store::open(test.segment(), "c")) {
                   EXPECT_LE(count(*there, "(?, ?, ?)"), 1u);
                   EXPECT_TRUE(store::drop_space(desk, "c").has_value());
                 }
               });
}

}  // namespace
}  // namespace godwit::testing
