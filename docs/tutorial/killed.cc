#include <tuplespace/space.hh>

#include <signal.h>

#include <iostream>

#include "processes.hh"

using godwit::formal;

void kill_and_wait(pid_t child) {
  kill(child, SIGKILL);
  wait_for(child);
}

int main() {
  godwit::Space space;

  // Killed while it waits: it takes nothing.
  kill_and_wait(start([&] { space.in("task", formal<int>); }));
  space.out("task", 1);
  std::cout << "tasks there: " << space.count("task", formal<int>) << "\n";

  // Killed after its in has returned: what it had taken is its own, and gone.
  pid_t child = start([&] {
    auto [n] = space.in("task", formal<int>);
    space.out("begun", n);
    for (;;) pause();
  });
  space.in("begun", formal<int>);
  kill_and_wait(child);
  std::cout << "tasks there: " << space.count("task", formal<int>) << "\n";

  // Who knows what must come of it puts it in again.
  space.out("task", 1);
  child = start([&] {
    auto [n] = space.in("task", formal<int>);
    space.out("result", n, 10 * n);
  });
  auto [result] = space.in("result", 1, formal<int>);
  wait_for(child);
  std::cout << "result: " << result << "\n";
}
