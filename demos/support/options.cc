#include "support/options.hh"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace demo {
namespace {

constexpr int kUsage = 2;  // exit status

[[noreturn]] void refuse(const std::string& what) {
  std::fprintf(stderr, "%s: %s; see --help\n", program_invocation_short_name, what.c_str());
  std::exit(kUsage);
}

[[noreturn]] void help(const char* what_it_does, const std::vector<Number>& numbers, const std::vector<Text>& texts) {
  std::printf("usage: %s [OPTION VALUE]...\n\n%s\n\n", program_invocation_short_name, what_it_does);
  for (const Number& number : numbers)
    std::printf("   %-15s  %s (%lld)\n", number.name, number.help, static_cast<long long>(*number.value));
  for (const Text& text : texts) std::printf("   %-15s  %s (%s)\n", text.name, text.help, text.value->c_str());
  std::exit(0);
}

void set(const Number& number, std::string_view word) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size() || value < number.least || value > number.most)
    refuse(std::string(number.name) + " takes a number from " + std::to_string(number.least) + " to " + std::to_string(number.most) +
           ", not '" + std::string(word) + "'");
  *number.value = value;
}

template <class Option>
const Option* find(const std::vector<Option>& options, const char* name) {
  for (const Option& option : options)
    if (std::strcmp(option.name, name) == 0) return &option;
  return nullptr;
}

}  // namespace

void parse(int argc, char** argv, const char* what_it_does, const std::vector<Number>& numbers, const std::vector<Text>& texts) {
  for (int i = 1; i < argc; i += 2) {
    if (std::strcmp(argv[i], "--help") == 0) help(what_it_does, numbers, texts);
    const Number* number = find(numbers, argv[i]);
    const Text* text = find(texts, argv[i]);
    if (!number && !text) refuse("there is no option '" + std::string(argv[i]) + "'");
    if (i + 1 == argc) refuse(std::string(argv[i]) + " takes a value");
    if (number) set(*number, argv[i + 1]);
    else *text->value = argv[i + 1];
  }
}

}  // namespace demo
