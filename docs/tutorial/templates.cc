#include <tuplespace/space.hh>
#include <tuplespace/text.hh>

#include <iostream>

using namespace godwit;

int main() {
  Space space;
  space.out("user:ann", 31, true);
  space.out("user:bob", 44, false);
  space.out("user:cid", 58, Nil{});

  std::cout << space.count("user:ann", 31, true) << " "     // 1
            << space.count("user:ann", 31.0, true) << " "   // 0: a float is no int
            << space.count("user:ann", formal<int>) << " "  // 0: the tuple has three fields
            << space.count(any, formal<int>, any) << "\n";  // 3

  auto [name, age, flag] = space.rd(prefix("user:"), range(40, 49), any);
  std::cout << name << " is " << age << "\n";

  Tuple corner{3, 4};
  space.out("line", Tuple{0, 0}, corner);
  auto [start, end] = space.in("line", any, nested(Template{3, AnyFormal{}}));
  std::cout << "to " << to_text(end) << "\n";

  Template wanted{Prefix{"user:"}};
  while (wanted.arity() < 3) wanted.add(AnyFormal{});
  while (auto tuple = space.inp(wanted)) std::cout << to_text(*tuple) << "\n";
}
