// Members in several PID namespaces, all with the same small TIDs, are killed at random instants in all operations on
// spaces. The tokens that they hand about are conserved, nobody waits in vain, and no memory is lost.
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <random>

#include "tests/support/audit.hh"
#include "tests/support/space.hh"
#include "tuplespace/shared/futex.hh"

namespace godwit::testing {
namespace {

using namespace shared;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint32_t kRounds = 2;
#else
constexpr uint32_t kRounds = 100;
#endif
constexpr uint32_t kNamespaces = 4, kKillsOfRound = 1000, kTokens = 40;

enum Act : uint32_t { kOut, kOutLarge, kOutFull, kIn, kInp, kRd, kRdp, kRequest, kTransact, kLease, kCount, kCollect, kCopyCollect, kCreateDrop, kActs };
constexpr const char* kActNames[] = {"out", "out large", "out when full", "in", "inp", "rd", "rdp", "request", "transaction", "lease", "count", "collect",
                                     "copy_collect", "create, drop"};

// What the members note of themselves, and the killers of them.
struct Tally {
  std::atomic<uint32_t> kills[kActs], busy[kActs];
  std::atomic<uint64_t> begun[kActs];
  std::atomic<uint32_t> locks, undos, tuples, intents, waits, failures;
  struct alignas(64) Member {
    std::atomic<uint32_t> slot;   // of the victim; 0: it has none yet
    std::atomic<uint32_t> act;
    std::atomic<int64_t> token;   // in hand, + 1: it may be in the space, or nowhere
  } members[kNamespaces];
  std::atomic<bool> astray[kTokens];  // may have gone with its taker
};

std::string payload_of(int64_t token, uint32_t length) {
  std::string bytes(length, 0);
  for (uint32_t i = 0; i < length; ++i) bytes[i] = static_cast<char>(token * 31 + i + length);
  return bytes;
}

bool is_token(TupleView fields, int64_t* token) {
  if (fields.size() != 3) return false;
  *token = fields[1].integer;
  return fields[2].text == payload_of(*token, static_cast<uint32_t>(fields[2].text.size()));
}

class Worker {
 public:
  Worker(Segment segment, Tally& tally, Tally::Member& note, unsigned seed)
      : segment_(segment),
        spaces_{Store::open(segment, "a").value(), Store::open(segment, "b").value(), Store::open(segment, "copies").value()},
        narrow_(Store::open(segment, "narrow").value()), tally_(tally), note_(note), random_(seed) {
    note.slot = (*Desk::of(segment).value()).self.slot_index;
  }

  void step() {
    std::uniform_int_distribution<uint32_t> any;
    Store &from = spaces_[any(random_) % 2], &to = spaces_[&from == &spaces_[0] ? 1 : 0];
    Template wanted = any_template();
    switch (uint32_t pick = any(random_) % 100) {
      case 0:  // seldom, for who waits has nothing in hand
        if (any(random_) % 2) return hand_on(from, to, wanted, kIn);
        return begin(kRd), (void)look(from, &Store::rd, wanted, true);
      default:
        if (pick < 20) return begin(kRdp), (void)look(from, &Store::rd, wanted, false);
        if (pick < 30) return begin(kCount), (void)from.count(AnyOf({wanted}).wanted());
        if (pick < 40) return begin(kCollect), expect(from.collect(to, AnyOf({wanted}).wanted()).has_value());
        if (pick < 50) return copy(from, wanted);
        if (pick < 58) return fill_narrow();
        if (pick < 60) return create_and_drop();
        if (pick < 72) return request(from, to, wanted);
        if (pick < 80) return transact(from, to, wanted);
        if (pick < 86) return lease(from, to, wanted);
        return hand_on(from, to, wanted, kInp);
    }
  }

 private:
  using Desk = store::Desk;
  void begin(Act act) {
    note_.act = act;
    tally_.begun[act]++;
  }
  void expect(bool holds) {
    if (!holds) _exit(9);
  }

  Template any_template() {
    int64_t token = random_() % kTokens;
    switch (random_() % 6) {
      case 0: return {"token", Formal{Type::kInt}, Formal{Type::kBytes}};
      case 1: return {Formal{Type::kString}, token, Formal{Type::kBytes}};
      case 2: return {AnyFormal{}, Range{token / 2, token}, AnyFormal{}};
      default: return {"token", token, Formal{Type::kBytes}};
    }
  }

  Wait soon() { return {std::chrono::steady_clock::now() + std::chrono::microseconds(random_() % 50), {}}; }

  bool look(Store& space, Operation operation, const Template& wanted, bool waits) {
    Wait wait = soon();
    int64_t token = -1;
    auto done = (space.*operation)(AnyOf({wanted}).wanted(), waits ? &wait : nullptr, [&](TupleView fields) {
      expect(is_token(fields, &token));
      if (operation == &Store::in) note_.token = token + 1;
      return true;
    });
    if (!done) expect(done.error().code == std::errc::timed_out);
    token_ = token;
    return done && *done;
  }

  void hand_on(Store& from, Store& to, const Template& wanted, Act act) {
    begin(act);
    if (!look(from, &Store::in, wanted, act == kIn)) return;
    bool large = random_() % 8 == 0;
    begin(large ? kOutLarge : kOut);
    std::string bytes = payload_of(token_, large ? 60000 + random_() % 300000 : random_() % 300);
    std::array fields = {FieldView::string("token"), FieldView::of(token_), FieldView::bytes(bytes)};
    expect((random_() % 2 ? from : to).out(fields).has_value());
    note_.token = 0;
  }

  // Several at once, all of which end.
  void request(Store& from, Store& to, const Template& wanted) {
    begin(kRequest);
    std::vector<uint32_t> requests;
    for (int i = 0; i < 3; ++i) {
      auto verb = i == 1 ? store::Verb::kRd : store::Verb::kIn;
      requests.push_back(from.request(verb, AnyOf({i == 2 ? any_template() : wanted}).wanted(), random_()).value());
    }
    for (uint32_t request : requests) {
      int64_t token = -1;
      bool takes = request == requests.front();
      auto done = from.receive(request, [&](TupleView fields) {
        expect(is_token(fields, &token));
        if (takes) note_.token = token + 1;
        return takes;
      });
      expect(done.has_value());
      if (!*done) from.withdraw(request);
      else if (**done) put_back(to, token);
    }
  }
  // Whoever is killed in it, no token goes astray.
  void transact(Store& from, Store& to, const Template& wanted) {
    begin(kTransact);
    Desk& desk = **Desk::of(segment_);
    store::Transaction& transaction = *store::begin_transaction(desk);
    for (int i = 0; i < 3; ++i) {
      int64_t token = -1;
      auto taken = from.in_within(transaction, AnyOf({wanted}).wanted(), nullptr, [&](TupleView fields) { return is_token(fields, &token); });
      expect(taken.has_value());
      if (!*taken) continue;
      std::string bytes = payload_of(token, random_() % 20 ? 100 : 70000);
      std::array fields = {FieldView::string("token"), FieldView::of(token), FieldView::bytes(bytes)};
      expect((random_() % 2 ? from : to).out_within(transaction, fields).has_value());
    }
    if (random_() % 4) expect(!store::commit(desk, transaction));
    expect(store::end_transaction(desk, *desk.bench, transaction));
  }
  // A token goes on while its delivery lasts, or comes back.
  void lease(Store& from, Store& to, const Template& wanted) {
    begin(kLease);
    auto brief = [&] { return std::chrono::microseconds(random_() % 200); };
    std::array mortal = {FieldView::string("brief")};
    expect(from.out_for(brief(), mortal).has_value());
    int64_t token = -1;
    auto taken = from.in_for(std::chrono::hours(1), AnyOf({wanted}).wanted(), nullptr, [&](TupleView fields) { return is_token(fields, &token); });
    expect(taken.has_value());
    if (!*taken) return;
    if (random_() % 2) return expect(*from.release(**taken, brief()));
    note_.token = token + 1;
    expect(*from.acknowledge(**taken));
    put_back(to, token);
  }
  void put_back(Store& to, int64_t token) {
    std::string bytes = payload_of(token, 100);
    std::array fields = {FieldView::string("token"), FieldView::of(token), FieldView::bytes(bytes)};
    expect(to.out(fields).has_value());
    note_.token = 0;
  }

  // Of a space where out waits for room: somebody puts, somebody takes.
  void fill_narrow() {
    begin(kOutFull);
    std::string bytes(5000, 'x');
    std::array fields = {FieldView::string("narrow"), FieldView::bytes(bytes)};
    Wait wait = soon();
    auto done = narrow_.out(fields, random_() % 64 ? nullptr : &wait);
    expect(done.has_value() || done.error().code == std::errc::timed_out || done.error().code == std::errc::no_space_on_device);
    if (random_() % 4 == 0) return;
    begin(kInp);
    expect(narrow_.in(AnyOf("(?, ?)").wanted(), nullptr, [](TupleView) { return true; }).has_value());
  }

  void create_and_drop() {
    begin(kCreateDrop);
    auto gone = [](const Error& e) { return e.code == std::errc::identifier_removed || e.code == std::errc::no_such_file_or_directory; };
    auto made = Store::create(segment_, "brief", {});
    expect(made.has_value() || made.error().code == std::errc::file_exists);
    auto space = Store::open(segment_, "brief");
    expect(space.has_value() || gone(space.error()));
    if (!space) return;
    std::array fields = {FieldView::string("brief")};
    auto done = space->out(fields);
    expect(done.has_value() || gone(done.error()));
    if (random_() % 2) return;
    auto dropped = store::drop_space(**Desk::of(segment_), "brief");
    expect(dropped.has_value() || gone(dropped.error()));
  }

  void copy(Store& from, const Template& wanted) {
    begin(kCopyCollect);
    expect(from.copy_collect(spaces_[2], AnyOf({wanted}).wanted()).has_value());
    AnyOf all("(?, ?, ?)");
    while (*spaces_[2].in(all.wanted(), nullptr, [](TupleView) { return true; })) {
    }
  }

  Segment segment_;
  Store spaces_[3], narrow_;
  Tally& tally_;
  Tally::Member& note_;
  std::minstd_rand random_;
  int64_t token_ = -1;
};

// What a stopped victim has in hand, seen as it is.
void look_at(Segment segment, Tally* tally, const Tally::Member& note) {
  Slot& slot = segment.area_of(0)->slots[note.slot];
  if (!slot.bench) return;
  const store::Bench& bench = *segment.at<store::Bench>(slot.bench);
  bool lock = std::any_of(std::begin(bench.spaces_in_hand), std::end(bench.spaces_in_hand), [](uint64_t bits) { return bits != 0; });
  bool undo = slot.undo_count;
  bool tuple = bench.waiter.held || bench.waiter.pinned || bench.chain, intent = bench.in_hand[0] || bench.in_hand[1] || slot.intent;
  tally->kills[note.act]++;
  tally->busy[note.act] += lock || undo || tuple || intent;
  tally->locks += lock;
  tally->undos += undo;
  tally->tuples += tuple;
  tally->intents += intent;
  tally->waits += bench.waiter.waiting != store::Waiting::kNo;
}

bool waits(Segment segment, const Tally::Member& note) {
  Slot& slot = segment.area_of(0)->slots[note.slot];
  return slot.bench && segment.at<store::Bench>(slot.bench)->waiter.waiting != store::Waiting::kNo;
}

// Lives in a PID namespace of its own making: forks members into it and kills them.
[[noreturn]] void run_namespace(Segment segment, Tally* tally, uint32_t n, unsigned seed) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (unshare(geteuid() == 0 ? CLONE_NEWPID : CLONE_NEWUSER | CLONE_NEWPID) != 0) _exit(2);
  pid_t init = fork();
  if (init == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
  }
  store::Desk& desk = **store::Desk::of(segment);
  std::minstd_rand random(seed);
  Tally::Member& note = tally->members[n];
  for (uint32_t k = 0; k < kKillsOfRound / kNamespaces; ++k) {
    note.slot = 0;
    pid_t victim = fork();
    if (victim == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      Worker worker(segment, *tally, note, random());
      for (;;) worker.step();
    }
    int status;
    while (!note.slot && waitpid(victim, &status, WNOHANG) == 0) sched_yield();
    // A random instant; but since whoever waits does so for long, most are struck when they do not.
    uint64_t end = monotonic_ns() + random() % 400'000, latest = end + (random() % 8 ? 2'000'000 : 0);
    while (uint64_t now = monotonic_ns())
      if (now >= latest || (now >= end && !waits(segment, note))) break;
      else sched_yield();
    kill(victim, SIGSTOP);
    waitpid(victim, &status, WUNTRACED);
    if (WIFSTOPPED(status)) look_at(segment, tally, note);
    kill(victim, SIGKILL);
    if (WIFSTOPPED(status)) waitpid(victim, &status, 0);
    if (!WIFSIGNALED(status)) {
      tally->failures++;
      fprintf(stderr, "a member ended by itself, status %x, in %s\n", status, kActNames[note.act]);
    }
    store::reap(desk);
    store::finish_drops(desk);
    (void)store::expire(desk);
    if (int64_t token = note.token.exchange(0)) tally->astray[token - 1] = true;
  }
  kill(init, SIGKILL);
  waitpid(init, nullptr, 0);
  exit(0);  // gives its standing in the segment back
}

TEST(CrashCampaign, TokensAreConservedAndNobodyWaitsInVain) {
  TestSegment test;
  store::Desk& desk = **store::Desk::of(test.segment());
  Store spaces[2] = {Store::create(test.segment(), "a", {}).value(), Store::create(test.segment(), "b", {}).value()};
  Store::create(test.segment(), "copies", {}).value();
  Store::create(test.segment(), "narrow", {100'000, true}).value();
  for (int64_t token = 0; token < kTokens; ++token) out(spaces[0], Tuple{"token", token, Bytes{payload_of(token, 100)}});
  auto* tally = static_cast<Tally*>(mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  unsigned seed = ::testing::UnitTest::GetInstance()->random_seed();
  printf("seed %u\n", seed);
  for (uint32_t round = 0; round < kRounds && !HasFailure(); ++round) {
    std::vector<pid_t> namespaces;
    for (uint32_t n = 0; n < kNamespaces; ++n) {
      pid_t child = fork();
      if (child == 0) run_namespace(test.segment(), tally, n, seed + round * 31 + n);
      namespaces.push_back(child);
    }
    for (pid_t child : namespaces) {
      int status;
      waitpid(child, &status, 0);
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "namespace ended with " << status;
    }
    store::reap(desk);
    store::finish_drops(desk);
    while (store::expire(desk) != ~uint64_t{0}) sched_yield();  // what was put off comes
    for (int64_t token = 0; token < kTokens; ++token) {
      AnyOf wanted({Template{"token", token, Formal{Type::kBytes}}});
      uint64_t there = spaces[0].count(wanted.wanted()).value() + spaces[1].count(wanted.wanted()).value();
      bool astray = tally->astray[token].exchange(false);
      EXPECT_TRUE(there == 1 || (there == 0 && astray)) << "token " << token << " is there " << there << " times";
      if (there == 0) out(spaces[0], Tuple{"token", token, Bytes{payload_of(token, 100)}});
    }
    for (const SpaceFacts& space : store::list_spaces(desk)) EXPECT_EQ(space.waiters, 0u);
  }
  uint32_t kills = 0, busy = 0;
  for (uint32_t act = 0; act < kActs; ++act) {
    printf("%-13s begun %9lu, kills %6u, with something in hand %6u\n", kActNames[act], tally->begun[act].load(),
           tally->kills[act].load(), tally->busy[act].load());
    kills += tally->kills[act];
    busy += tally->busy[act];
  }
  printf("kills %u, with something in hand %u (lock %u, undo log %u, tuple %u, intent %u); waiting %u\n", kills, busy,
         tally->locks.load(), tally->undos.load(), tally->tuples.load(), tally->intents.load(), tally->waits.load());
  EXPECT_EQ(tally->failures.load(), 0u);
  EXPECT_GE(kills, kRounds * kKillsOfRound * 9 / 10);
  EXPECT_GE(busy * 2, kills) << "the campaign must strike where it matters";
  expect_all_memory_back(desk);
}

}  // namespace
}  // namespace godwit::testing
