// From a move's thread into the node's loop and back.
#pragma once
#include <future>
#include <memory>

#include "tuplespace/node/loop.hh"

namespace godwit::migrate {

/// Runs f in the loop's thread and waits for its result. Never from the loop's thread itself.
template <class F>
auto on_loop(Loop& loop, F f) -> decltype(f()) {
  std::packaged_task<decltype(f())()> task(std::move(f));
  auto result = task.get_future();
  auto shared = std::make_shared<decltype(task)>(std::move(task));
  loop.post([shared] { (*shared)(); });
  return result.get();
}

/// A callback's result, waited for. start(done) runs in the loop's thread, done(value) is called there once.
template <class T, class Start>
T from_loop(Loop& loop, Start start) {
  auto promise = std::make_shared<std::promise<T>>();
  auto result = promise->get_future();
  loop.post([start = std::move(start), promise]() mutable {
    start([promise](T value) { promise->set_value(std::move(value)); });
  });
  return result.get();
}

}  // namespace godwit::migrate
