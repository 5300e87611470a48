#include <tuplespace/space.hh>

#include <iostream>

using godwit::formal;

int main() {
  godwit::Space space;
  for (const char* color : {"red", "green", "blue"})
    for (int i = 1; i <= 2; ++i) space.out("queue", color, i);

  auto [color, n] = space.in("queue", formal<std::string>, formal<int>);
  std::cout << color << " " << n << "\n";
  auto [blue] = space.in("queue", "blue", formal<int>);
  std::cout << "blue " << blue << "\n";
  while (auto rest = space.inp("queue", formal<std::string>, formal<int>))
    std::cout << std::get<0>(*rest) << " " << std::get<1>(*rest) << "\n";
}
