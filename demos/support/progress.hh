// A bar on the terminal, as wide as that has room for, and nothing where stderr is none.
#pragma once
#include <cstdint>

namespace demo {

class Progress {
 public:
  Progress(const char* label, int64_t total);
  Progress(const Progress&) = delete;
  ~Progress();  // wipes the line
  void show(int64_t done);

 private:
  const char* label_;
  int64_t total_;
  int64_t percent_ = -1;  // as drawn
  bool terminal_;
};

}  // namespace demo
