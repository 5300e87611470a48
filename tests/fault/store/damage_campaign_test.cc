// Random bytes of one space's metadata are flipped, and everything is tried on it: operations work or say that the space is
// damaged, in a bounded time; other spaces lose nothing; dropped and created anew the space is as good as new. Each round
// runs in a process of its own, whose crash or hanging is a failure of the test.
//
// Not flipped: the words of locks. One that names a living thread is waited for, as that thread is.
#include <sys/wait.h>

#include <random>
#include <thread>

#include "tests/support/space.hh"
#include "tuplespace/store/index.hh"
#include "tuplespace/store/reap.hh"
#include "tuplespace/store/root.hh"
#include "tuplespace/store/table.hh"

namespace godwit::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint32_t kRounds = 30;
#else
constexpr uint32_t kRounds = 600;
#endif
constexpr unsigned kDeadline = 30;  // seconds of a round
constexpr int kTuples = 150;

struct Outcome {
  std::atomic<uint32_t> worked, damaged, rounds_damaged;
};

class Round {
 public:
  Round(TestSegment& test, unsigned seed, Outcome& outcome)
      : test_(test), desk_(**store::Desk::of(test.segment())), random_(seed), outcome_(outcome) {}

  void run() {
    victim_.emplace(Store::create(test_.segment(), "victim", {random_() % 2 ? 32u << 20 : 0, random_() % 2 == 0}).value());
    for (Store* space : {&*victim_, &peer_, &other_}) fill(*space);
    leave_dead_member();
    std::thread waiters[] = {std::thread([this] { wait(AnyOf("(?, -1)")); }), std::thread([this] { wait(AnyOf("(\"k\", -1)")); })};
    auto both_wait = std::chrono::steady_clock::now() + std::chrono::milliseconds(10);
    while (store::list_spaces(desk_)[2].waiters != 2 && std::chrono::steady_clock::now() < both_wait) std::this_thread::yield();
    flip(1 + random_() % 4);
    for (int i = 0; i < 60; ++i) act();
    for (std::thread& waiter : waiters) waiter.join();
    store::reap(desk_);
    outcome_.rounds_damaged += store::list_spaces(desk_)[2].damaged;
    (void)store::list_waits(desk_);
    check_others();
  }

 private:
  using Bytes = std::span<unsigned char>;
  [[noreturn]] void fail(const char* what) {
    fprintf(stderr, "%s\n", what);
    _exit(9);
  }
  void expect(bool holds, const char* what) {
    if (!holds) fail(what);
  }

  void fill(Store& space) {
    for (int i = 0; i < kTuples; ++i) out(space, Tuple{i % 3 ? "k" : "l", i, std::string(static_cast<size_t>(i) * 7 % 300, 'x')});
    (void)rdp(space, "(\"k\", 149, ?)");  // makes indexes
    (void)rdp(space, "(?string, 149, ?string)");
    for (int i = 0; i < 40; ++i) out(space, Tuple{i});
  }

  // It held a tuple of the victim, and one of another space.
  void leave_dead_member() {
    for (Store* space : {&*victim_, &other_}) {
      pid_t child = fork();
      if (child == 0) (void)space->in(AnyOf("(\"k\", 1, ?)").wanted(), nullptr, [](TupleView) -> bool { _exit(0); });
      int status;
      waitpid(child, &status, 0);
    }
  }

  void wait(const AnyOf& wanted) {
    Wait soon{std::chrono::steady_clock::now() + std::chrono::milliseconds(30), {}};
    (void)victim_->in(wanted.wanted(), &soon, [](TupleView) { return true; });
    expect(inp(other_, "(\"none\")") == "absent", "a waiter of a damaged space goes on elsewhere");
  }

  // The victim's metadata, record by record.
  std::vector<Bytes> records() {
    std::vector<Bytes> all;
    auto add = [&](auto& from, auto& to) {
      auto* begin = reinterpret_cast<unsigned char*>(&from);
      all.push_back({begin, reinterpret_cast<unsigned char*>(&to)});
    };
    store::Root& root = *store::open_space(desk_, "victim")->root;
    store::Locked locked(desk_, root, store::kStripes);
    add(root.number, root.wild_lock);
    for (store::Stripe& stripe : locked.stripes()) {
      add(stripe.place, stripe.queues[store::kQueues]);
      for (uint32_t part = 0; part < store::kTableParts; ++part)
        if (stripe.parts[part]) add(desk_.at<store::Part>(stripe.parts[part]), desk_.at<store::Part>(stripe.parts[part]).buckets[64]);
      store::for_each_shape(desk_, stripe, [&](store::Ref, store::Shape& shape) {
        add(shape, shape.types[shape.arity]);
        for (store::Ref r = shape.oldest; r; r = store::stored_at(desk_, r).newer)
          add(store::stored_at(desk_, r), store::stored_at(desk_, r).data[0]);
      });
    }
    return all;
  }

  void flip(uint32_t bytes) {
    auto all = records();
    for (uint32_t i = 0; i < bytes; ++i) {
      // Every other time in the few records that lead to the rest.
      Bytes record = all[random_() % (i % 2 ? all.size() : std::min<size_t>(all.size(), 20))];
      record[random_() % record.size()] ^= static_cast<unsigned char>(1u << random_() % 8 | (random_() % 2 ? random_() : 0));
    }
  }

  template <class T>
  void note(const Result<T>& done) {
    ++(done.has_value() || done.error().code.value() != EUCLEAN ? outcome_.worked : outcome_.damaged);
  }

  AnyOf any_template() {
    int i = static_cast<int>(random_() % kTuples);
    switch (random_() % 6) {
      case 0: return AnyOf({Template{"k", i, AnyFormal{}}});
      case 1: return AnyOf({Template{Formal{Type::kString}, i, Formal{Type::kString}}});
      case 2: return AnyOf({Template{AnyFormal{}, Range{i, i + 9}, AnyFormal{}}});
      case 3: return AnyOf({Template{AnyFormal{}}});
      case 4: return AnyOf({Template{"l", AnyFormal{}, AnyFormal{}}, Template{i}});
      default: return AnyOf({Template{AnyFormal{}, AnyFormal{}, AnyFormal{}}});
    }
  }

  void act() {
    AnyOf any_of = any_template();
    Wait soon{std::chrono::steady_clock::now() + std::chrono::milliseconds(1), {}};
    auto look_at = [](TupleView fields) { return to_tuple(fields).arity() < 5000; };
    switch (random_() % 10) {
      case 0: return note(victim_->out(views_of(Tuple{"k", static_cast<int>(random_() % 500), "new"}), &soon));
      case 1: return note(victim_->out(views_of(Tuple{"k", random_() % 500 * 1.0}), &soon));
      case 2: return note(victim_->in(any_of.wanted(), &soon, look_at));
      case 3: return note(victim_->in(any_of.wanted(), nullptr, look_at));
      case 4: return note(victim_->rd(any_of.wanted(), &soon, look_at));
      case 5: return note(victim_->in(any_of.wanted(), nullptr, [](TupleView) { return false; }));
      case 6: return note(victim_->count(any_of.wanted()));
      case 7: return note(random_() % 2 ? victim_->collect(peer_, any_of.wanted()) : victim_->copy_collect(peer_, any_of.wanted()));
      case 8: return note(random_() % 2 ? peer_.collect(*victim_, any_of.wanted()) : peer_.copy_collect(*victim_, any_of.wanted()));
      default:
        (void)store::list_waits(desk_);
        if (random_() % 2) store::reap(desk_);
    }
  }

  void check_others() {
    for (int i = 0; i < kTuples; ++i) {
      std::string key = i % 3 ? "k" : "l";
      expect(inp(other_, "(\"" + key + "\", " + std::to_string(i) + ", ?)") != "absent", "another space has lost a tuple");
    }
    for (int i = 0; i < 40; ++i) expect(inp(other_, "(?int)") == "(" + std::to_string(i) + ")", "another space has lost its order");
    expect(count(other_, "(?, ?, ?)") == 0, "another space has got tuples");
    auto done = put(peer_, Tuple{"peer", 1});
    if (!done) fail(done.error().message().c_str());
    expect(inp(peer_, "(\"peer\", 1)") != "absent", "a space that tuples were collected to");
    (void)store::drop_space(desk_, "victim");
    auto anew = Store::create(test_.segment(), "fresh", {}).value();
    fill(anew);
    expect(count(anew, "(?, ?, ?)") == kTuples, "a new space");
    expect(store::drop_space(desk_, "fresh").has_value() && store::drop_space(desk_, "other").has_value(), "dropping the others");
  }

  TestSegment& test_;
  store::Desk& desk_;
  std::minstd_rand random_;
  Outcome& outcome_;
  Store other_ = Store::create(test_.segment(), "other", {}).value(), peer_ = Store::create(test_.segment(), "peer", {}).value();
  std::optional<Store> victim_;
};

TEST(DamageCampaign, FlippedMetadataClosesTheSpaceAndHurtsNobodyElse) {
  unsigned seed = ::testing::UnitTest::GetInstance()->random_seed();
  if (const char* given = getenv("GODWIT_SEED")) seed = static_cast<unsigned>(atoi(given));
  printf("seed %u\n", seed);
  auto* outcome = static_cast<Outcome*>(mmap(nullptr, sizeof(Outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  for (uint32_t round = 0; round < kRounds && !HasFailure(); ++round) {
    TestSegment test(64ull << 20);
    pid_t child = fork();
    if (child == 0) {
      alarm(kDeadline);
      Round(test, seed + round * 31, *outcome).run();
      _exit(::testing::Test::HasFailure() ? 8 : 0);
    }
    int status;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0) << "in round " << round << "; GODWIT_SEED=" << seed + round * 31 << " begins with it";
  }
  printf("%u rounds: %u operations worked, %u said that the space is damaged, which %u spaces were found to be\n", kRounds,
         outcome->worked.load(), outcome->damaged.load(), outcome->rounds_damaged.load());
  EXPECT_TRUE(HasFailure() || outcome->rounds_damaged.load() * 4 >= kRounds) << "the campaign must strike where it matters";
}

}  // namespace
}  // namespace godwit::testing
