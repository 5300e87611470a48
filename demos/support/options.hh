// The options of a demo: numbers and names, each with a default, and flags. `--name=value` and `--name value` are the same.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace demo {

struct Number {
  const char* name;  // "--workers"
  int64_t* value;    // its default until parse
  int64_t least, most;
  const char* help;
};
struct Text {
  const char* name;
  std::string* value;
  const char* help;
};
struct Flag {
  const char* name;  // without a value
  bool* value;       // false until parse
  const char* help;
};

/// Prints the help that was asked for, or one line about what is wrong, and ends the program (status 0 or 2).
void parse(int argc, char** argv, const char* what_it_does, const std::vector<Number>& numbers, const std::vector<Text>& texts = {},
           const std::vector<Flag>& flags = {});

}  // namespace demo
