#include <tuplespace/space.hh>

#include <iostream>

#include "processes.hh"

using namespace std::chrono_literals;
using godwit::any;
using godwit::formal;
using godwit::Space;

int main() {
  Space small = Space::create("small", {.capacity = 64 << 10});
  int64_t n = 0;
  try {
    for (;;) small.out("fill", n++);
  } catch (const godwit::Failure& failure) {
    std::cout << "full: " << (failure.code() == std::errc::no_space_on_device) << "\n";
  }
  Space::drop("small");

  // A pipe: the producer is never far ahead of the consumer.
  Space pipe = Space::create("pipe", {.capacity = 64 << 10, .blocks_when_full = true});
  pid_t producer = start([&] {
    for (int i = 0; i < 10000; ++i) pipe.out("item", i);
  });
  int64_t sum = 0;
  for (int i = 0; i < 10000; ++i) {
    auto [item] = pipe.in("item", formal<int>);
    sum += item;
  }
  wait_for(producer);
  std::cout << "sum: " << sum << "\n";

  // All that match, at one moment.
  Space done = Space::create("done");
  for (int i = 0; i < 5; ++i) pipe.out("item", i);
  std::cout << pipe.collect(done, "item", godwit::range(2, 9)) << " moved, " << pipe.count("item", any) << " left\n";
  std::cout << done.copy_collect(pipe, "item", any) << " copied back\n";

  Space::drop("pipe");
  Space::drop("done");
}
