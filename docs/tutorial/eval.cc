#include <tuplespace/eval.hh>

#include <iostream>

using godwit::any, godwit::call, godwit::formal;
using godwit::Space;

int64_t fibonacci(int64_t n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

int main() {
  godwit::Functions functions;
  functions.add("fibonacci", fibonacci);
  functions.add("join", [](const std::string& a, const std::string& b) { return a + b; });
  functions.add("inverse", [](double x) {
    if (x == 0) throw std::domain_error("there is no inverse of 0");
    return 1 / x;
  });
  if (auto status = godwit::work_if_asked(functions)) return *status;

  Space space = Space::create("numbers");
  for (int n = 20; n < 30; ++n) space.eval("fibonacci", n, call("fibonacci", n));
  space.eval("names", call("join", "Ann", "Bob"), call("join", "Cid", "Dan"));
  std::cout << "before: " << space.count("fibonacci", any, any) << "\n";

  godwit::Workers workers(space, functions, 2);
  int64_t sum = 0;
  for (int n = 20; n < 30; ++n) sum += std::get<0>(space.in("fibonacci", n, formal<int>));
  auto [first, second] = space.in("names", formal<std::string>, formal<std::string>);
  std::cout << "sum: " << sum << ", names: " << first << " " << second << "\n";

  space.eval("inverse", 0.0, call("inverse", 0.0));
  auto [function, why, fields, calls] = space.evals().in("failed", formal<std::string>, formal<std::string>, any, any);
  std::cout << function << " failed: " << why << "\n";

  workers.stop();
  Space::drop("numbers");
}
