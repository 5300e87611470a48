#include <tuplespace/space.hh>
#include <tuplespace/transaction.hh>

#include <iostream>

#include "processes.hh"

using namespace std::chrono_literals;
using godwit::any, godwit::formal;
using godwit::Space, godwit::Transaction;

int main() {
  Space jobs = Space::create("jobs"), results = Space::create("results");
  for (int i = 1; i <= 3; ++i) jobs.out("job", i);

  // A worker that dies in the middle of every job but never loses one.
  pid_t clumsy = start([&] {
    Transaction work;
    Space from = work.of(jobs), to = work.of(results);
    auto [n] = from.in("job", formal<int>);
    to.out("result", n, n * n);
    raise(SIGKILL);  // before the commit
  });
  wait_for(clumsy);

  Transaction work;
  Space from = work.of(jobs), to = work.of(results);
  for (int i = 0; i < 3; ++i) {
    auto [n] = from.in("job", formal<int>);  // waits until the dead one's job is back
    to.out("result", n, n * n);
    work.commit();
  }
  std::cout << jobs.count("job", any) << " jobs, " << results.count("result", any, any) << " results\n";

  // Taken for a time: acknowledged, or back by itself.
  jobs.out("job", 4);
  {
    auto lease = jobs.in_for(1min, "job", formal<int>);
  }  // given back
  auto lease = jobs.in_for(1min, "job", formal<int>);
  auto [job] = *lease;
  lease.acknowledge();
  std::cout << "job " << job << " done, " << jobs.count("job", any) << " left\n";

  // Only one is the leader, whoever asks first.
  std::cout << "leader: " << results.out_unique({"leader", any}, "leader", 1) << results.out_unique({"leader", any}, "leader", 2) << "\n";
  // A counter that others may change meanwhile.
  results.out("counter", 0);
  for (bool done = false; !done;) {
    auto [n] = results.rd("counter", formal<int>);
    done = results.swap({"counter", n}, "counter", n + 1);
  }
  std::cout << "counter: " << std::get<0>(results.in("counter", formal<int>)) << "\n";

  Space::drop("jobs");
  Space::drop("results");
}
