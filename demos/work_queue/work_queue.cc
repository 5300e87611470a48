// A queue of jobs whose workers crash: each job is done exactly once.
//
// A job is to find the smallest factor of a number. What a worker takes and what it puts are one transaction: whoever crashes
// before its commit has not taken the job. So are what a producer counts and what it puts.
#include <signal.h>
#include <unistd.h>

#include <map>

#include "support/options.hh"
#include "support/progress.hh"
#include "support/workers.hh"
#include "tuplespace/transaction.hh"

using godwit::formal;
using namespace std::chrono_literals;

namespace {

struct Queue {
  int64_t jobs = 1000;
  int64_t producers = 2;
  int64_t crash_rate = 20;  // per cent of the deliveries
};
constexpr int64_t kNoMore = -1;  // instead of a job's number

struct Crash : std::runtime_error {
  using std::runtime_error::runtime_error;
};
constexpr const char* kCrashes[] = {"killed with -9", "exited", "threw"};

int64_t number_of(int64_t job) { return 1'000'000'000'001 + 2 * job; }

int64_t smallest_factor(int64_t number) {
  for (int64_t factor = 3; factor * factor <= number; factor += 2)
    if (number % factor == 0) return factor;
  return number;
}

// Of these deliveries of a job so many per cent crash: always the same ones, so that two runs are alike.
void crash_perhaps(godwit::Space& space, const Queue& queue, int64_t job, uint64_t delivery) {
  std::seed_seq seed{job, static_cast<int64_t>(delivery)};
  std::mt19937 random(seed);
  if (static_cast<int64_t>(random() % 100) >= queue.crash_rate) return;
  const auto how = static_cast<int64_t>(random() % std::size(kCrashes));
  space.out("crash", how);
  if (how == 0) kill(getpid(), SIGKILL);
  if (how == 1) _exit(3);
  throw Crash(kCrashes[how]);
}

// Takes the number of the next job and puts the job. returns false: it was the last.
bool produce_one(godwit::Space& space, int64_t jobs) {
  godwit::Transaction transaction;
  godwit::Space queue = transaction.of(space);
  auto [job] = queue.in("next", formal<int>);
  if (job == jobs) return false;  // rolled back: the next producer ends of it, too
  queue.out("job", job, number_of(job));
  queue.out("next", job + 1);
  transaction.commit();
  return true;
}

// Takes a job and puts its result. returns false: there are no more.
bool do_one(godwit::Space& space, const Queue& options) {
  godwit::Transaction transaction;
  godwit::Space queue = transaction.of(space);
  auto [job, number] = queue.in("job", formal<int>, formal<int>);
  if (job == kNoMore) {
    queue.out("gone");
    transaction.commit();
    return false;
  }
  space.out("delivered", job);  // outside: it is to outlive us
  queue.out("done", job, smallest_factor(number));
  crash_perhaps(space, options, job, space.count("delivered", job));
  transaction.commit();
  return true;
}

void work(godwit::Space& space, const Queue& options) {
  for (bool more = true; more;) {
    try {
      more = do_one(space, options);
    } catch (const Crash&) {  // the transaction has ended with its scope; we go on
    }
  }
}

// What the master takes out of the space.
struct Results {
  std::map<int64_t, int64_t> times;  // by job
  int64_t twice = 0;

  void add(int64_t job, int64_t factor) {
    if (factor < 2 || number_of(job) % factor != 0) throw std::runtime_error("a result is wrong; please report this");
    twice += ++times[job] == 2;
  }
  int64_t jobs() const { return static_cast<int64_t>(times.size()); }
};

// Until all are done; or, if one is lost, nothing happens any more. Then tells the workers to go, so that nothing is under way.
Results take_results(demo::Workers& crew, const Queue& queue, int64_t workers) {
  Results results;
  godwit::Space& space = crew.space();
  demo::Progress progress("jobs", queue.jobs);
  for (auto last = std::chrono::steady_clock::now(); results.jobs() < queue.jobs && demo::seconds_since(last) < 30;) {
    crew.look_after(results.jobs(), queue.jobs);
    auto done = space.in(20ms, "done", formal<int>, formal<int>);
    if (!done) continue;
    std::apply([&](int64_t job, int64_t factor) { results.add(job, factor); }, *done);
    progress.show(results.jobs());
    last = std::chrono::steady_clock::now();
  }
  for (int64_t i = 0; i < workers; ++i) space.out("job", kNoMore, 0);
  for (int64_t gone = 0; gone < workers; gone += space.in(20ms, "gone").has_value()) crew.look_after(0, queue.jobs);
  while (auto late = space.inp("done", formal<int>, formal<int>)) results.add(std::get<0>(*late), std::get<1>(*late));
  return results;
}

// How many jobs were delivered once, twice, ... returns how many deliveries were not the first.
int64_t print_tables(godwit::Space& space, int64_t jobs) {
  std::map<uint64_t, int64_t> jobs_by_deliveries;
  int64_t again = 0;
  for (int64_t job = 0; job < jobs; ++job) {
    uint64_t deliveries = space.count("delivered", job);
    ++jobs_by_deliveries[deliveries];
    again += std::max<int64_t>(static_cast<int64_t>(deliveries) - 1, 0);
  }
  std::printf("deliveries    jobs\n");
  for (auto [deliveries, number] : jobs_by_deliveries)
    std::printf("%10llu  %6lld\n", static_cast<unsigned long long>(deliveries), static_cast<long long>(number));
  std::printf("crash           times\n");
  for (int64_t how = 0; how < static_cast<int64_t>(std::size(kCrashes)); ++how)
    std::printf("%-14s %6llu\n", kCrashes[how], static_cast<unsigned long long>(space.count("crash", how)));
  return again;
}

void work_queue(const Queue& queue, demo::Crew crew) {
  const int64_t workers = crew.workers;
  crew.workers += queue.producers;
  demo::Workers processes(crew);
  processes.space().out("next", 0);
  auto began = std::chrono::steady_clock::now();
  processes.start([&](godwit::Space& space, int64_t who) {
    if (who >= queue.producers) return work(space, queue);
    while (produce_one(space, queue.jobs)) continue;
  });
  const Results results = take_results(processes, queue, workers);
  const double seconds = demo::seconds_since(began);
  const int64_t lost = queue.jobs - results.jobs(), again = print_tables(processes.space(), queue.jobs);
  std::printf("workers %lld producers %lld seconds %.3f jobs_per_second %.0f died %lld\n", static_cast<long long>(workers),
              static_cast<long long>(queue.producers), seconds, static_cast<double>(queue.jobs) / seconds,
              static_cast<long long>(processes.died()));
  std::printf("jobs %lld done %lld lost %lld twice %lld redelivered %lld\n", static_cast<long long>(queue.jobs),
              static_cast<long long>(results.jobs()), static_cast<long long>(lost), static_cast<long long>(results.twice),
              static_cast<long long>(again));
  if (lost || results.twice) throw std::runtime_error("jobs were lost, or done twice; please report this");
}

}  // namespace

int main(int argc, char** argv) {
  Queue queue;
  demo::Crew crew;
  demo::parse(argc, argv, "Does each job of a queue exactly once, with worker processes that crash.",
              {{"--jobs", &queue.jobs, 1, 100000, "in all"},
               {"--workers", &crew.workers, 1, 200, "processes that do jobs"},
               {"--producers", &queue.producers, 1, 50, "processes that put jobs in"},
               {"--crash-rate", &queue.crash_rate, 0, 90, "so many deliveries of a hundred crash: kill -9, exit, exception"},
               {"--kill", &crew.kill, 0, 1000, "so many processes are killed with -9 besides"}});
  return demo::run([&] { work_queue(queue, crew); });
}
