#include "support/options.hh"

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace demo {
namespace {

constexpr int kUsage = 2;  // exit status

[[noreturn]] void refuse(const std::string& what) {
  std::fprintf(stderr, "%s: %s; see --help\n", program_invocation_short_name, what.c_str());
  std::exit(kUsage);
}

[[noreturn]] void help(const char* what_it_does, const std::vector<Number>& numbers, const std::vector<Text>& texts,
                       const std::vector<Flag>& flags) {
  std::printf("usage: %s [--OPTION VALUE]...\n\n%s\n\n", program_invocation_short_name, what_it_does);
  for (const Number& number : numbers)
    std::printf("   %-15s  %s (%lld)\n", number.name, number.help, static_cast<long long>(*number.value));
  for (const Text& text : texts)
    std::printf("   %-15s  %s (%s)\n", text.name, text.help, text.value->empty() ? "none" : text.value->c_str());
  for (const Flag& flag : flags) std::printf("   %-15s  %s\n", flag.name, flag.help);
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
const Option* find(const std::vector<Option>& options, std::string_view name) {
  for (const Option& option : options)
    if (option.name == name) return &option;
  return nullptr;
}

}  // namespace

void parse(int argc, char** argv, const char* what_it_does, const std::vector<Number>& numbers, const std::vector<Text>& texts,
           const std::vector<Flag>& flags) {
  for (int i = 1; i < argc; ++i) {
    std::string_view word = argv[i];
    if (word == "--help" || word == "-h") help(what_it_does, numbers, texts, flags);
    size_t equals = word.find('=');
    std::string name(word.substr(0, equals));
    const Number* number = find(numbers, name);
    const Text* text = find(texts, name);
    if (const Flag* flag = find(flags, name)) {
      if (equals != word.npos) refuse(name + " takes no value");
      *flag->value = true;
      continue;
    }
    if (!number && !text) refuse("there is no option '" + name + "'");
    if (equals == word.npos && ++i == argc) refuse(name + " takes a value");
    std::string_view value = equals == word.npos ? argv[i] : word.substr(equals + 1);
    if (number) set(*number, value);
    else *text->value = value;
  }
}

}  // namespace demo
