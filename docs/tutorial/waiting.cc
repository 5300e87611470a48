#include <tuplespace/space.hh>

#include <iostream>
#include <thread>

using namespace std::chrono_literals;
using godwit::formal;

int main() {
  godwit::Space space;
  if (!space.in(10ms, "answer", formal<int>)) std::cout << "none within 10 ms\n";

  auto deadline = std::chrono::steady_clock::now() + 10ms;
  if (!space.rd(deadline, "answer", formal<int>)) std::cout << "none until then\n";

  std::jthread waiter([&](std::stop_token stop) {
    while (auto job = space.in(stop, "job", formal<int>)) space.out("done", std::get<0>(*job));
    space.out("stopped");
  });
  space.out("job", 7);
  space.in("done", 7);
  waiter.request_stop();
  space.in("stopped");
  std::cout << "job 7 done, then stopped\n";
}
