// The dining philosophers, each a process: a fork is a tuple, and a meal is a transaction.
//
// Dijkstra, "Hierarchical ordering of sequential processes", Acta Informatica 1, 1971. The tickets are those of Carriero and
// Gelernter, "Linda in Context", CACM 32(4), 1989: where at most N - 1 of N have a fork in hand, one of them gets its second.
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "support/options.hh"
#include "support/progress.hh"
#include "support/workers.hh"
#include "tuplespace/transaction.hh"

using godwit::formal;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

struct Dinner {
  int64_t meals = 100;  // it ends when everybody has had so many; if naive, of a deadlock
  int64_t pause = 1;    // ms, on average
  bool naive = false;   // a ticket for each: all may have one fork in hand
};

void pause(const Dinner& dinner) {
  static std::minstd_rand random(static_cast<uint32_t>(getpid()));
  std::this_thread::sleep_for(dinner.pause * std::chrono::microseconds(random() % 2000));
}

// With a deadline, after which it is told that we wait, holding a fork. We go on holding it: so a deadlock stays one.
void wait_for_fork(godwit::Space& space, godwit::Space& table, int64_t who, int64_t fork) {
  if (table.in(1s, "fork", fork)) return;
  space.out("waits", who);
  table.in("fork", fork);
  (void)space.inp("waits", who);
}

// What a philosopher does. Killed at any moment, it has not had this meal, and what it took lies on the table again.
void dine(godwit::Space& space, int64_t who, int64_t philosophers, const Dinner& dinner) {
  const int64_t left = who, right = (who + 1) % philosophers;
  while (space.inp("waits", who)) continue;  // told by one who was killed
  for (;;) {
    pause(dinner);  // thinks
    godwit::Transaction meal;
    godwit::Space table = meal.of(space);
    table.in("ticket");
    table.in("fork", left);
    pause(dinner);  // reaches for the other one
    if (dinner.naive) wait_for_fork(space, table, who, right);
    else table.in("fork", right);
    pause(dinner);  // eats
    table.out("fork", left);
    table.out("fork", right);
    table.out("ticket");
    table.out("meal", who);
    meal.commit();
  }
}

// As the master sees one.
struct Philosopher {
  int64_t meals = 0;
  double longest = 0;  // seconds between two meals, or until the first
  Clock::time_point last = Clock::now();

  void wait_ends() {
    longest = std::max(longest, demo::seconds_since(last));
    last = Clock::now();
  }
};

// How many there are once those of the dead are back, which are taken here: neither less nor more.
int64_t forks_on(godwit::Space& space, int64_t philosophers) {
  int64_t forks = 0;
  for (int64_t fork = 0; fork < philosophers; ++fork) forks += space.in(10s, "fork", fork).has_value();
  return forks + static_cast<int64_t>(space.count("fork", formal<int>));
}

int64_t tickets_in(godwit::Space& space, int64_t tickets) {
  int64_t found = 0;
  while (found < tickets && space.in(10s, "ticket")) ++found;
  return found + static_cast<int64_t>(space.count("ticket"));
}

// All wait at one moment, and nobody has eaten for longer than a dead neighbour's fork needs to come back.
bool is_deadlock(godwit::Space& space, const std::vector<Philosopher>& philosophers) {
  if (space.count("waits", formal<int>) < philosophers.size()) return false;
  return std::all_of(philosophers.begin(), philosophers.end(), [](const auto& p) { return Clock::now() - p.last > 3s; });
}

void print_table(const std::vector<Philosopher>& philosophers) {
  std::printf("philosopher  meals  longest_wait_ms\n");
  for (size_t who = 0; who < philosophers.size(); ++who)
    std::printf("%11zu  %5lld  %15.1f\n", who, static_cast<long long>(philosophers[who].meals), philosophers[who].longest * 1e3);
}

void philosophers(const Dinner& dinner, const demo::Crew& crew) {
  const int64_t number = crew.workers, tickets = dinner.naive ? number : number - 1, wanted = number * dinner.meals;
  demo::Workers workers(crew);
  godwit::Space& space = workers.space();
  for (int64_t fork = 0; fork < number; ++fork) space.out("fork", fork);
  for (int64_t ticket = 0; ticket < tickets; ++ticket) space.out("ticket");

  std::vector<Philosopher> guests(static_cast<size_t>(number));
  int64_t served = 0, meals = 0;  // served: those that count
  bool deadlock = false;
  {
    demo::Progress progress("meals", wanted);
    workers.start([&](godwit::Space& bound, int64_t who) { dine(bound, who, number, dinner); });
    while (dinner.naive ? !deadlock : served < wanted) {
      workers.look_after(served, wanted);
      auto meal = space.in(20ms, "meal", formal<int>);
      deadlock = !meal && is_deadlock(space, guests);
      if (!meal) continue;
      Philosopher& guest = guests[static_cast<size_t>(std::get<0>(*meal))];
      guest.wait_ends();
      ++meals;
      if (++guest.meals <= dinner.meals) progress.show(++served);
    }
  }
  for (Philosopher& guest : guests) guest.wait_ends();
  workers.stop();  // with -9, whatever they have in hand
  const int64_t forks = forks_on(space, number), back = tickets_in(space, tickets);
  print_table(guests);
  std::printf("philosophers %lld meals %lld killed %lld forks %lld tickets %lld deadlock %s\n", static_cast<long long>(number),
              static_cast<long long>(meals), static_cast<long long>(workers.died()), static_cast<long long>(forks),
              static_cast<long long>(back), deadlock ? "yes" : "no");
  if (forks != number || back != tickets) throw std::runtime_error("forks or tickets were lost or doubled; please report this");
  if (deadlock) throw std::runtime_error("deadlock: each holds a fork and waits for the next one; without --naive there is none");
}

}  // namespace

int main(int argc, char** argv) {
  Dinner dinner;
  demo::Crew crew{.workers = 5};
  demo::parse(argc, argv, "Philosophers dine, processes whose forks are tuples. It ends when everybody has had enough.",
              {{"--philosophers", &crew.workers, 2, 200, "processes, and forks"},
               {"--meals", &dinner.meals, 1, 100000, "so many are enough"},
               {"--kill", &crew.kill, 0, 1000, "so many philosophers are killed with -9 meanwhile"},
               {"--pause", &dinner.pause, 0, 10000, "milliseconds, on average, to think, to reach for the second fork and to eat"}},
              {}, {{"--naive", &dinner.naive, "without what prevents a deadlock: until there is one, which is told"}});
  return demo::run([&] { philosophers(dinner, crew); });
}
