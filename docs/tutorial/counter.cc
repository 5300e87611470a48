#include <tuplespace/space.hh>

#include <iostream>

#include "processes.hh"

using godwit::formal;

int main() {
  godwit::Space space;
  space.out("counter", 0);

  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i)
    children.push_back(start([&] {
      for (int k = 0; k < 1000; ++k) {
        auto [n] = space.in("counter", formal<int>);
        space.out("counter", n + 1);
      }
    }));
  for (pid_t child : children) wait_for(child);

  auto [n] = space.in("counter", formal<int>);
  std::cout << n << "\n";
}
