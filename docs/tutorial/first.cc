#include <tuplespace/space.hh>

#include <iostream>

using godwit::formal;

int main() {
  godwit::Space space;  // the default one

  space.out("point", 3, 4.5);
  auto [x, y] = space.in("point", formal<int>, formal<double>);
  std::cout << "in:  " << x << " " << y << "\n";

  space.out("color", "red");
  auto [seen] = space.rd("color", formal<std::string>);   // it stays
  auto [taken] = space.in("color", formal<std::string>);  // it is gone
  std::cout << "rd:  " << seen << ", in: " << taken << "\n";

  if (!space.rdp("color", formal<std::string>)) std::cout << "rdp: there is none now\n";
}
