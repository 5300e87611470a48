#include <tuplespace/space.hh>

#include <iostream>

using namespace std::chrono_literals;
using godwit::formal;

int main() {
  godwit::Space space;
  auto number = space.in_async("number", formal<int>);
  auto text = space.in_async("text", formal<std::string>);
  std::cout << "ready: " << number.ready() << "\n";
  if (!number.get(10ms)) std::cout << "not yet\n";

  space.out("text", "hello");
  space.out("number", 42);
  auto [n] = number.get();
  auto [t] = text.get();
  std::cout << t << " " << n << "\n";

  {
    auto given_up = space.in_async("number", formal<int>);
  }
  space.out("number", 43);
  std::cout << "left for others: " << space.inp("number", 43).has_value() << "\n";
}
