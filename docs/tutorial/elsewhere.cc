#include <tuplespace/space.hh>

#include <iostream>

using godwit::any, godwit::formal, godwit::Space;

int main() {
  Space shared("shared", "alice.key");
  auto [a] = shared.in("task", formal<int>);
  auto [b] = shared.in("task", formal<int>);
  shared.out("product", a * b);

  for (int i = 1; i < 1000; ++i) shared.out_async("n", i);
  shared.out_async("n", 1000).get();  // they come in their order: now all are there
  std::cout << shared.count("n", any) << " put\n";

  auto [product] = shared.in("product", formal<int>);
  std::cout << product << "\n";
}
