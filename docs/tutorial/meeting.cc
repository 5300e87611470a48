#include <tuplespace/space.hh>

#include <iostream>

#include "processes.hh"

using godwit::any;
using godwit::formal;

// A semaphore: as many tuples as may be in at once.
void with_semaphore(godwit::Space& space, int who) {
  space.in("seat");
  space.out("was in", who, space.count("seat"));
  space.out("seat");
}

// A barrier: the last one to come opens it.
void barrier(godwit::Space& space) {
  auto [missing] = space.in("barrier", formal<int>);
  space.out("barrier", missing - 1);
  space.rd("barrier", 0);
}

int main() {
  godwit::Space space;
  const int kProcesses = 5;
  for (int i = 0; i < 2; ++i) space.out("seat");
  space.out("barrier", kProcesses);

  std::vector<pid_t> children;
  for (int i = 0; i < kProcesses; ++i)
    children.push_back(start([&, i] {
      with_semaphore(space, i);
      barrier(space);
      space.out("passed", space.count("was in", any, any));
    }));
  for (pid_t child : children) wait_for(child);

  std::cout << "free seats seen from within: at most 1: " << space.count("was in", any, godwit::range(0, 1)) << "\n";
  std::cout << "passed after all had been in: " << space.count("passed", kProcesses) << "\n";
  while (space.inp("was in", any, any) || space.inp("passed", any) || space.inp("seat") || space.inp("barrier", any)) {}
}
