// Measures spaces against their peers, both sides in turn, and prints what tests/bench/run makes a line of:
//   bench_store NAME     ->  ours=VALUE peer=VALUE unit=U rate=0|1 cpu_ours=S cpu_peer=S [key=value...]
// Values are medians over rounds. Uses GODWIT_HOME.
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "tuplespace/eval.hh"
#include "tuplespace/space.hh"
#include "tuplespace/transaction.hh"

namespace {

using namespace godwit;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double cpu_seconds() {
  double sum = 0;
  for (int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage usage;
    getrusage(who, &usage);
    sum += usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
  }
  return sum;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Nanoseconds an operation, of many.
double ns_each(int number, const std::function<void(int)>& operation) {
  auto start = Clock::now();
  for (int i = 0; i < number; ++i) operation(i);
  return seconds_since(start) * 1e9 / number;
}

using Side = std::function<double()>;
struct Measured {
  double ours, peer, cpu_ours, cpu_peer;
};

// One round of each to warm up, then in turn.
Measured in_turn(int rounds, const Side& ours, const Side& peer) {
  const Side* sides[] = {&ours, &peer};
  std::vector<double> values[2], cpu[2];
  for (int round = -1; round < rounds; ++round)
    for (int s = 0; s < 2; ++s) {
      double before = cpu_seconds(), value = (*sides[s])();
      if (round < 0) continue;
      values[s].push_back(value);
      cpu[s].push_back(cpu_seconds() - before);
    }
  return {median(values[0]), median(values[1]), median(cpu[0]), median(cpu[1])};
}

void print(const Measured& m, const char* unit, bool rate = false, const std::vector<std::pair<const char*, double>>& more = {}) {
  std::printf("ours=%.6g peer=%.6g unit=%s rate=%d cpu_ours=%.6g cpu_peer=%.6g", m.ours, m.peer, unit, rate, m.cpu_ours, m.cpu_peer);
  for (auto [key, value] : more) std::printf(" %s=%.6g", key, value);
  std::printf("\n");
}

Space space_named(const char* name, const SpaceOptions& options = {}) {
  try {
    Space::drop(name);
  } catch (const Failure&) {
  }
  return Space::create(name, options);
}

// ---- Redis over its unix socket

class RedisLine {
 public:
  explicit RedisLine(const std::string& path) : path_(path) {}
  RedisLine(RedisLine&& other) noexcept : path_(other.path_), fd_(std::exchange(other.fd_, -1)) {}
  ~RedisLine() { close(fd_); }
  bool connected() {
    sockaddr_un address{AF_UNIX, {}};
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    if (fd_ < 0) fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  // Until so many bytes of answers have come.
  void ask(std::string_view request, ssize_t length = 1) {
    if (write(fd_, request.data(), request.size()) != static_cast<ssize_t>(request.size())) abort();
    for (ssize_t got; length > 0; length -= got)
      if ((got = read(fd_, answer_, sizeof answer_)) <= 0) abort();
  }

 private:
  std::string path_;
  int fd_ = -1;
  char answer_[512];
};

class Redis {
 public:
  // durable: in that folder; empty: not at all.
  explicit Redis(const std::string& folder = "") {
    pid_ = fork();
    if (pid_ == 0) {
      if (!freopen("/dev/null", "w", stdout)) _exit(127);
      const char* append = folder.empty() ? "no" : "yes";
      execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", path_.c_str(), "--save", "", "--appendonly", append, "--appendfsync",
             "always", "--dir", folder.empty() ? "." : folder.c_str(), nullptr);
      _exit(127);
    }
    while (!line_.connected()) std::this_thread::yield();
  }
  ~Redis() {
    kill(pid_, SIGTERM);
    waitpid(pid_, nullptr, 0);
    unlink(path_.c_str());
  }
  void ask(std::string_view request, ssize_t length = 1) { line_.ask(request, length); }
  RedisLine line() const {
    RedisLine line(path_);
    if (!line.connected()) abort();
    return line;
  }

 private:
  std::string path_ = "/tmp/godwit-bench-" + std::to_string(getpid()) + ".sock";
  RedisLine line_{path_};
  pid_t pid_;
};

// ---- The benches

double out_in_ns(Space& space, const char* key, const Bytes& payload, int number) {
  return ns_each(number, [&](int i) {
    space.out(key, i, payload);
    space.in(key, formal<int>, formal<Bytes>);
  });
}

void out_in_64() {
  Space space = space_named("bench");
  Bytes payload{std::string(64, 'x')};
  Redis redis;
  std::string push = "*3\r\n$5\r\nLPUSH\r\n$1\r\nk\r\n$64\r\n" + payload.data + "\r\n", pop = "*2\r\n$4\r\nRPOP\r\n$1\r\nk\r\n";
  print(in_turn(51,
                [&] { return out_in_ns(space, "k", payload, 200000); },
                [&] {
                  return ns_each(300, [&](int) {
                    redis.ask(push);
                    redis.ask(pop);
                  });
                }),
        "ns");
}

// Two tuples are taken, each from its own space, and put into the other's.
void transaction() {
  Space a = space_named("bench"), b = space_named("bench.other");
  Bytes payload{std::string(64, 'x')};
  a.out("k", 1, payload), b.out("k", 2, payload);
  Transaction both;
  Space within_a = both.of(a), within_b = both.of(b);
  auto exchange = [&](int) {
    auto [n, x] = within_a.in("k", formal<int>, formal<Bytes>);
    auto [m, y] = within_b.in("k", formal<int>, formal<Bytes>);
    within_a.out("k", m, y), within_b.out("k", n, x);
    both.commit();
  };
  Redis redis;
  auto word = [](const std::string& text) { return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n"; };
  auto push = [&](const char* list) { return "*3\r\n" + word("LPUSH") + word(list) + word(payload.data); };
  auto pop = [&](const char* list) { return "*2\r\n" + word("RPOP") + word(list); };
  std::string popped = word(payload.data);
  redis.ask(push("a") + push("b"), 8);
  std::string request = "*1\r\n" + word("MULTI") + pop("a") + pop("b") + push("a") + push("b") + "*1\r\n" + word("EXEC");
  std::string answer = "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n" + popped + popped + ":1\r\n:1\r\n";
  print(in_turn(51, [&] { return ns_each(10000, exchange); },
                [&] { return ns_each(300, [&](int) { redis.ask(request, static_cast<ssize_t>(answer.size())); }); }),
        "ns");
}

void out_in_64k() {
  Space space = space_named("bench");
  constexpr size_t kSize = 64 << 10;
  Bytes payload{std::string(kSize, 'x')};
  std::string middle(kSize, 0), end(kSize, 0);
  print(in_turn(51,
                [&] { return out_in_ns(space, "k", payload, 1000); },
                [&] {
                  return ns_each(1000, [&](int) {
                    std::memcpy(middle.data(), payload.data.data(), kSize);
                    asm volatile("" ::"r"(middle.data()) : "memory");
                    std::memcpy(end.data(), middle.data(), kSize);
                    asm volatile("" ::"r"(end.data()) : "memory");
                  });
                }),
        "ns");
}

// How long it takes from an out until the in that slept for it in another process has returned, against a futex.
struct Shared {
  std::atomic<uint32_t> word;
  std::atomic<int64_t> sent, taken;
};

int64_t now_ns() { return Clock::now().time_since_epoch().count(); }

void futex(std::atomic<uint32_t>& word, int op, uint32_t value) { syscall(SYS_futex, &word, op, value, nullptr, nullptr, 0); }

// The other process has long gone to sleep when it is woken.
template <class Wake>
double latency_of(Shared& shared, const Wake& wake) {
  std::vector<double> all;
  for (int i = 0; i < 100; ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(300));
    shared.taken = 0;
    shared.sent = now_ns();
    wake();
    while (shared.taken == 0) std::this_thread::yield();
    all.push_back(static_cast<double>(shared.taken - shared.sent) / 1e3);
  }
  return median(all);
}

template <class F>
pid_t process(F f) {
  pid_t pid = fork();
  if (pid == 0) {
    f();
    _exit(0);
  }
  return pid;
}

template <class Trip>
double trips(const Trip& trip) {
  return ns_each(20000, [&](int) { trip(); }) / 1e3;
}

// The processors that we may use, the calling thread on one of them until this ends.
class Placed {
 public:
  Placed() {
    sched_getaffinity(0, sizeof all_, &all_);
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &all_)) last_ = i, first_ = first_ < 0 ? i : first_;
    on_first();
  }
  ~Placed() { sched_setaffinity(0, sizeof all_, &all_); }
  void on_first() const { stay_on(first_); }
  void on_last() const { stay_on(last_); }

 private:
  static void stay_on(int processor) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    sched_setaffinity(0, sizeof set, &set);
  }
  cpu_set_t all_;
  int first_ = -1, last_ = -1;
};

// From an out, or a futex's wake, until who slept for it in another process has returned.
Measured wake_ups(bool apart) {
  Placed placed;
  auto place_other = [&] { apart ? placed.on_last() : placed.on_first(); };
  Space space = space_named("bench");
  auto& shared = *static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  pid_t taker = process([&] {
    place_other();
    for (;;) {
      auto [go_on] = space.in("wake", formal<bool>);
      shared.taken = now_ns();
      if (!go_on) return;
    }
  });
  pid_t sleeper = process([&] {
    place_other();
    for (uint32_t seen = 0;;) {
      while (shared.word == seen) futex(shared.word, FUTEX_WAIT, seen);
      seen = shared.word;
      shared.taken = now_ns();
      if (seen == ~0u) return;
    }
  });
  Measured asleep = in_turn(21, [&] { return latency_of(shared, [&] { space.out("wake", true); }); },
                            [&] {
                              return latency_of(shared, [&] {
                                ++shared.word;
                                futex(shared.word, FUTEX_WAKE, 1);
                              });
                            });
  space.out("wake", false);
  shared.word = ~0u;
  futex(shared.word, FUTEX_WAKE, 1);
  waitpid(taker, nullptr, 0), waitpid(sleeper, nullptr, 0);
  return asleep;
}

// With a processor for each of the two, and one for both.
void handover() {
  Measured apart = wake_ups(true), together = wake_ups(false);
  Space space = space_named("bench");
  pid_t echo = process([&] {
    while (std::get<0>(space.in("ping", formal<bool>))) space.out("pong");
  });
  double trip = trips([&] {
    space.out("ping", true);
    space.in("pong");
  });
  space.out("ping", false);
  waitpid(echo, nullptr, 0);
  print(apart, "us", false, {{"one_processor_ours", together.ours}, {"one_processor_peer", together.peer},
                             {"one_processor_ratio", together.peer / together.ours}, {"awake_round_trip_us", trip}});
}

// ---- Many tuples

constexpr int kFew = 1000;

// As many as the machine has memory for, ten million at most.
int many() {
  double free = static_cast<double>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  return static_cast<int>(std::min(1e7, free / 4 / 256));
}

void fill(Space& space, int number) {
  Bytes payload{std::string(64, 'x')};
  for (int i = static_cast<int>(space.count("m", any, any)); i < number; ++i) space.out("m", i, payload);
}

// A space in which such tuples have been looked for before, so that it has the indexes.
Space indexed_space(const char* name) {
  Space space = space_named(name);
  fill(space, 100);
  space.rdp("m", 99, formal<Bytes>), space.rdp(formal<std::string>, 99, formal<Bytes>);
  return space;
}

uint64_t bytes_of(const char* name) {
  for (const SpaceFacts& facts : Space::list())
    if (facts.name == name) return facts.bytes;
  return 0;
}

double in_out(Space& space, const char* key) {
  static const Bytes payload{std::string(64, 'x')};
  return out_in_ns(space, key, payload, 20000);
}

void many_same() {
  Space small = space_named("small"), large = space_named("large");
  int number = many();
  fill(small, kFew), fill(large, number);
  Measured same = in_turn(31, [&] { return in_out(large, "m"); }, [&] { return in_out(small, "m"); });
  Measured other = in_turn(31, [&] { return in_out(large, "u"); }, [&] { return in_out(small, "u"); });
  print(same, "ns", false, {{"tuples", number}, {"unrelated_ours", other.ours}, {"unrelated_peer", other.peer},
                            {"unrelated_ratio", other.peer / other.ours}});
  Space::drop("large"), Space::drop("small");
}

// A line of memory names the next one: a load that waits for the one before.
class Chase {
 public:
  explicit Chase(uint64_t bytes) {
    while (lines_ * 64 < bytes) lines_ *= 2;
    memory_ = static_cast<uint64_t*>(mmap(nullptr, lines_ * 64, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    for (uint64_t i = 0; i < lines_; ++i) memory_[i * 8] = (i * 0x5851F42D4C957F2Dull + 1) & (lines_ - 1);  // one cycle through all
  }
  ~Chase() { munmap(memory_, lines_ * 64); }
  double load_ns() {
    return ns_each(200000, [&](int) { at_ = *const_cast<volatile uint64_t*>(memory_ + at_ * 8); });
  }

 private:
  uint64_t lines_ = 1024, at_ = 0;
  uint64_t* memory_;
};

void many_random() {
  Space large = indexed_space("large");
  int number = many();
  fill(large, number);
  Chase chase(bytes_of("large"));
  std::mt19937 random(1);
  auto key = [&] { return static_cast<int>(random() % static_cast<uint32_t>(number)); };
  Measured exact = in_turn(21, [&] { return ns_each(50000, [&](int) { large.rdp("m", key(), formal<Bytes>); }); },
                           [&] { return 4 * chase.load_ns(); });
  double formal_first = median([&] {
    std::vector<double> rounds;
    for (int i = 0; i < 21; ++i)
      rounds.push_back(ns_each(50000, [&](int) { large.rdp(formal<std::string>, key(), formal<Bytes>); }));
    return rounds;
  }());
  Space small = indexed_space("small");
  fill(small, kFew);
  double few = ns_each(50000, [&](int i) { small.rdp("m", i % kFew, formal<Bytes>); });
  print(exact, "ns", false, {{"tuples", number}, {"formal_first_ours", formal_first}, {"formal_first_ratio", exact.peer / formal_first},
                             {"among_1000_ours", few}});
  Space::drop("large"), Space::drop("small");
}

// ---- Contention

// Pairs of out and in a second, of so many processes together.
double pairs(Space& space, int processes, bool own_keys) {
  constexpr double kSeconds = 0.2;
  auto& done = *static_cast<std::atomic<uint64_t>*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  auto start = Clock::now();
  std::vector<pid_t> all;
  for (int p = 0; p < processes; ++p)
    all.push_back(process([&] {
      Bytes payload{std::string(64, 'x')};
      std::string key = "k" + std::to_string(own_keys ? p : 0);
      uint64_t number = 0;
      for (; seconds_since(start) < kSeconds; number += 100)
        for (int i = 0; i < 100; ++i) {
          space.out(key, i, payload);
          space.in(key, formal<int>, formal<Bytes>);
        }
      done += number;
    }));
  for (pid_t pid : all) waitpid(pid, nullptr, 0);
  double rate = static_cast<double>(done) / seconds_since(start);
  munmap(&done, 4096);
  return rate;
}

void contended(bool own_keys) {
  Space space = space_named("bench");
  print(in_turn(15, [&] { return pairs(space, 4, own_keys); }, [&] { return pairs(space, 1, own_keys); }), "pairs/s", true,
        {{"processes", 4}});
}

// ---- Durability

// What so many processes do together, in a second. begin() makes what does it, in each process before the time counts.
double rate_of(int processes, int number, const std::function<std::function<void(int)>(int process)>& begin) {
  struct Gate {
    std::atomic<int> ready, open;
  };
  auto& gate = *static_cast<Gate*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  std::vector<pid_t> all;
  for (int p = 0; p < processes; ++p)
    all.push_back(process([&] {
      auto operation = begin(p);
      ++gate.ready;
      while (!gate.open) std::this_thread::yield();
      for (int i = 0; i < number; ++i) operation(i);
    }));
  while (gate.ready < processes) std::this_thread::yield();
  auto start = Clock::now();
  gate.open = 1;
  for (pid_t pid : all) waitpid(pid, nullptr, 0);
  double rate = processes * number / seconds_since(start);
  munmap(&gate, sizeof gate);
  return rate;
}

void durable_out() {
  constexpr int kClients = 16, kNumber = 500;
  Space space = space_named("bench", {.durable = true});
  Bytes payload{std::string(64, 'x')};
  std::string folder = std::string(getenv("GODWIT_HOME")) + "/redis";
  std::filesystem::create_directory(folder);
  Redis redis(folder);
  std::string push = "*3\r\n$5\r\nLPUSH\r\n$1\r\nk\r\n$64\r\n" + payload.data + "\r\n";
  print(in_turn(9,
                [&] {
                  return rate_of(kClients, kNumber, [&](int) {
                    space.rdp("none");
                    return [&](int i) { space.out("k", i, payload); };
                  });
                },
                [&] {
                  return rate_of(kClients, kNumber, [&](int) {
                    return [&, line = std::make_shared<RedisLine>(redis.line())](int) { line->ask(push); };
                  });
                }),
        "outs/s", true, {{"clients", kClients}});
  Space::drop("bench");
  std::filesystem::remove_all(folder);
}

// ---- eval

// Of this thread's processor: a task that sleeps would hide what eval costs, and one that looks at the clock what others do.
int64_t work_1ms(int64_t task) {
  timespec now;
  auto used = [&] { return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), now.tv_sec * 1'000'000'000 + now.tv_nsec; };
  for (const int64_t end = used() + 1'000'000; used() < end;) continue;
  return task;
}

// A thousand tasks by two processes, put in and taken by this one; and the same ones by two that have half of them each.
void eval_1ms() {
  constexpr int kTasks = 1000;
  Space space = space_named("bench");
  Functions functions;
  functions.add("work", work_1ms);
  auto ours = [&] {
    std::vector<pid_t> workers;
    for (int i = 0; i < 2; ++i) workers.push_back(process([&] { work(space, functions); }));
    auto start = Clock::now();
    for (int task = 0; task < kTasks; ++task) space.eval("result", task, call("work", task));
    for (int task = 0; task < kTasks; ++task) space.in("result", task, formal<int>);
    const double milliseconds = seconds_since(start) * 1e3;
    for (pid_t worker : workers) kill(worker, SIGKILL), waitpid(worker, nullptr, 0);
    return milliseconds;
  };
  auto ideal = [&] {
    auto start = Clock::now();
    auto half = [] { for (int task = 0; task < kTasks / 2; ++task) work_1ms(task); };
    pid_t other = process(half);
    half();
    waitpid(other, nullptr, 0);
    return seconds_since(start) * 1e3;
  };
  print(in_turn(11, ours, ideal), "ms", false, {{"tasks", kTasks}, {"workers", 2}});
}

const std::map<std::string, std::function<void()>> kBenches = {
    {"out_in_64", out_in_64},     {"out_in_64k", out_in_64k},
    {"transaction", transaction}, {"handover", handover},
    {"eval_1ms", eval_1ms},       {"many_same", many_same},
    {"many_random", many_random}, {"contended_own", [] { contended(true); }},
    {"durable_out", durable_out}, {"contended_one", [] { contended(false); }},
};

}  // namespace

int main(int argc, char** argv) {
  auto bench = argc == 2 ? kBenches.find(argv[1]) : kBenches.end();
  if (bench == kBenches.end()) {
    std::fprintf(stderr, "usage: bench_store NAME; tests/bench/run --list names them\n");
    return 2;
  }
  try {
    bench->second();
  } catch (const Failure& failure) {
    std::fprintf(stderr, "bench_store: %s\n", failure.what());
    return 1;
  }
}
