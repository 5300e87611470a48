#include <tuplespace/space.hh>

#include <iostream>

#include "processes.hh"

using godwit::formal;

void work(godwit::Space& space) {
  for (;;) {
    auto [n] = space.in("task", formal<int>);
    if (n < 0) return;
    space.out("result", n, n * n);
  }
}

int main() {
  godwit::Space space;
  std::vector<pid_t> workers;
  for (int i = 0; i < 3; ++i) workers.push_back(start([&] { work(space); }));

  for (int n = 0; n < 100; ++n) space.out("task", n);
  int64_t sum = 0;
  for (int n = 0; n < 100; ++n) {
    auto [square] = space.in("result", n, formal<int>);
    sum += square;
  }
  std::cout << "sum of the squares: " << sum << "\n";

  for (size_t i = 0; i < workers.size(); ++i) space.out("task", -1);
  for (pid_t worker : workers) wait_for(worker);
}
