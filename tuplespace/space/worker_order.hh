// What `godwit worker` and the programs that it starts say to each other: an order in the environment, and one byte back.
#pragma once
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <optional>
#include <string>

namespace godwit {

struct WorkerOrder {
  static constexpr const char* kVariable = "GODWIT_WORKER";  // FD SPACE
  static constexpr char kAccepted = 'w';

  int answer = -1;  // a pipe's end
  std::string space;

  /// The one that this process was started with, if any. Its children are not asked.
  static std::optional<WorkerOrder> given() {
    const char* text = std::getenv(kVariable);
    if (!text) return std::nullopt;
    std::string_view words(text);
    const size_t blank = std::min(words.find(' '), words.size());
    WorkerOrder order;
    std::from_chars(words.data(), words.data() + blank, order.answer);
    order.space = words.substr(std::min(blank + 1, words.size()));
    unsetenv(kVariable);
    return order;
  }
  std::string text() const { return std::to_string(answer) + " " + space; }

  void accept() const {
    (void)!write(answer, &kAccepted, 1);
    close(answer);
  }
};

}  // namespace godwit
