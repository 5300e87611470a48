// A program that uses an installed Godwit: every header, and a few operations.
#include <tuplespace/codec.hh>
#include <tuplespace/match.hh>
#include <tuplespace/space.hh>
#include <tuplespace/text.hh>

#include <cstdio>

using godwit::formal;

int main() {
  godwit::Space space = godwit::Space::create("bag", {.capacity = 1 << 20});
  space.out("task", 42, 3.5);
  auto [n, x] = space.in("task", formal<int>, formal<double>);
  auto pending = space.in_async("result", formal<std::string>);
  space.out("result", "done");
  auto tuple = godwit::parse_tuple("(\"task\", 42, 3.5)");
  bool same = tuple && godwit::match(godwit::Template{"task", n, x}, *tuple) && godwit::decode_tuple(godwit::encode(*tuple));
  auto [text] = pending.get();
  try {
    godwit::Space("no such space");
  } catch (const godwit::Failure& failure) {
    std::printf("%s %s %s\n", godwit::to_text(*tuple).c_str(), text.c_str(), same ? failure.what() : "different");
  }
}
