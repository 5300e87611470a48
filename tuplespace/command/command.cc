#include "tuplespace/command/command.hh"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>

#include "tuplespace/command/version.hh"
#include "tuplespace/fault.hh"

namespace godwit {
namespace {

const OptionSpec* find_spec(std::span<const OptionSpec> specs, std::string_view name) {
  for (const auto& spec : specs)
    if (spec.name == name) return &spec;
  return nullptr;
}

bool is_option(std::string_view word) { return word.size() > 1 && word[0] == '-'; }

Error misuse(std::string text) { return make_error(std::errc::invalid_argument, std::move(text)); }

std::string one_line(std::string_view text) {
  std::string line(text);
  for (char& c : line)
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  return line;
}

}  // namespace

Result<Options> Options::parse(const Args& args, std::span<const OptionSpec> specs,
                               bool program_follows) {
  Options out;
  size_t i = 0;
  for (; i < args.size(); ++i) {
    std::string_view word = args[i];
    if (word == "--") {
      ++i;
      break;
    }
    if (!is_option(word)) {
      if (program_follows) break;
      out.words_.emplace_back(word);
      continue;
    }
    size_t equals = word.substr(0, 2) == "--" ? word.find('=') : std::string_view::npos;
    std::string name(word.substr(0, equals));
    const OptionSpec* spec = find_spec(specs, name);
    if (!spec) return misuse("unknown option " + name);
    if (spec->takes == Takes::kNothing) {
      if (equals != std::string_view::npos) return misuse("option " + name + " takes no value");
      out.values_[name].emplace_back();
    } else if (equals != std::string_view::npos) {
      out.values_[name].emplace_back(word.substr(equals + 1));
    } else if (i + 1 < args.size()) {
      out.values_[name].push_back(args[++i]);
    } else {
      return misuse("option " + name + " needs a value");
    }
  }
  out.words_.insert(out.words_.end(), args.begin() + static_cast<long>(i), args.end());
  return out;
}

std::optional<std::string> Options::value(std::string_view name) const {
  auto found = values_.find(std::string(name));
  if (found == values_.end()) return std::nullopt;
  return found->second.back();
}

std::vector<std::string> Options::all(std::string_view name) const {
  auto found = values_.find(std::string(name));
  return found == values_.end() ? std::vector<std::string>{} : found->second;
}

int fail(std::string_view command, int status, std::string_view text) {
  std::fflush(stdout);
  std::string line = "godwit";
  if (!command.empty()) line.append(" ").append(command);
  line.append(": ").append(one_line(text)).append("\n");
  std::fwrite(line.data(), 1, line.size(), stderr);
  return status;
}

int fail(std::string_view command, const Error& error) {
  return fail(command, exit_status(error), describe(error));
}

int usage_error(std::string_view command, std::string_view text) {
  std::string hint = command.empty() ? "godwit --help" : "godwit help " + std::string(command);
  return fail(command, kUsage, std::string(text) + "; see " + hint);
}

int exit_status(const Error& error) {
  if (error.code == std::errc::no_such_process) return kUnknown;
  if (error.code == std::errc::no_such_device_or_address) return kUnknown;
  if (error.code == std::errc::timed_out) return kTimedOut;
  if (error.code == std::errc::state_not_recoverable) return kBroken;
  return kRefused;
}

std::string describe(const Error& error) { return error.message(); }

std::optional<std::chrono::nanoseconds> parse_seconds(std::string_view text) {
  double seconds = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) return std::nullopt;
  return std::chrono::nanoseconds(static_cast<int64_t>(seconds * 1e9));
}

std::optional<uint64_t> parse_number(std::string_view text, uint64_t max) {
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number > max) return std::nullopt;
  return number;
}

std::optional<uint64_t> parse_size(std::string_view text, uint64_t max) {
  constexpr std::string_view kUnits = "KMG";
  size_t unit = text.empty() ? kUnits.npos : kUnits.find(text.back());
  if (unit == kUnits.npos) return parse_number(text, max);
  text.remove_suffix(1);
  int shift = 10 * static_cast<int>(unit + 1);
  auto number = parse_number(text, max >> shift);
  if (!number) return std::nullopt;
  return *number << shift;
}

std::optional<AddressPort> parse_address(std::string_view text) {
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  auto port = parse_number(text.substr(colon + 1), 65535);
  std::string_view address = text.substr(0, colon);
  if (address.front() == '[' && address.back() == ']') address = address.substr(1, address.size() - 2);
  else if (address.find(':') != std::string_view::npos) return std::nullopt;
  if (!port || address.empty()) return std::nullopt;
  return AddressPort{std::string(address), static_cast<uint16_t>(*port)};
}

void print_table(const std::vector<std::string>& headings,
                 const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& heading : headings) widths.push_back(heading.size());
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size() && i < widths.size(); ++i)
      widths[i] = std::max(widths[i], row[i].size());
  auto print = [&](const std::vector<std::string>& row) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
    }
    std::printf("%s\n", line.c_str());
  };
  print(headings);
  for (const auto& row : rows) print(row);
}

namespace {

using Rooms = std::span<const std::span<const Command>>;

const Command* find_command(Rooms rooms, std::string_view name) {
  for (const auto& room : rooms)
    for (const auto& command : room)
      if (command.name == name) return &command;
  return nullptr;
}

void print_overview(Rooms rooms) {
  std::puts("usage: godwit [--version] [--help] COMMAND [ARGS...]\n\n"
            "A tuple space that unmodified programs live in; a running program can be moved\n"
            "between hosts with its connections open. The commands:\n");
  for (const auto& room : rooms)
    for (const auto& command : room)
      if (!command.summary.empty())
        std::printf("   %-11.*s %.*s\n", static_cast<int>(command.name.size()), command.name.data(),
                    static_cast<int>(command.summary.size()), command.summary.data());
  std::puts("\nSee 'godwit help COMMAND' for what a command does and takes.\n"
            "GODWIT_HOME names the folder that is this host: keys, logs, directory, pods.");
}

void print_page(const Command& command) {
  std::printf("%.*s", static_cast<int>(command.usage.size()), command.usage.data());
  if (command.usage.empty() || command.usage.back() != '\n') std::putchar('\n');
}

// Asked for among the options, not among the words of a program to run.
bool wants_help(const Command& command, const Args& args) {
  for (const auto& word : args) {
    if (word == "--" || (command.program_follows && !is_option(word))) return false;
    if (word == "--help" || word == "-h") return true;
  }
  return false;
}

int unknown_command(const std::string& name) {
  return fail("", kUsage, "'" + name + "' is not a godwit command; see godwit --help");
}

constexpr Command kHelp = {"help", "", "usage: godwit help [COMMAND]\n\n"
                           "Prints what a command does and takes; without one, which commands there are.\n", nullptr};

int run_help(Rooms rooms, const Args& args) {
  if (args.empty()) return print_overview(rooms), kDone;
  if (args.size() > 1) return usage_error("help", "one command at a time");
  const Command* command = args[0] == "help" || is_option(args[0]) ? &kHelp : find_command(rooms, args[0]);
  if (!command) return fail("help", kUsage, "'" + args[0] + "' is not a godwit command; see godwit --help");
  return print_page(*command), kDone;
}

// A fault that can never strike would pass for one that does no harm.
std::optional<std::string> wrong_fault() {
  const char* text = std::getenv("GODWIT_FAULT");
  if (!text || !*text) return std::nullopt;
  std::string given = "GODWIT_FAULT=" + std::string(text);
  auto fault = parse_fault(text);
  if (!fault) return given + " is not POINT[:N][:kill|stop|error]; see godwit faults";
  auto points = fault_points();
  if (std::find(points.begin(), points.end(), fault->point) != points.end()) return std::nullopt;
  return given + " names no fault point; see godwit faults";
}

int flushed(int status) {
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return status;
  return status == kDone ? fail("", kBroken, "cannot write to standard output") : status;
}

}  // namespace

int command_main(int argc, char** argv, Rooms rooms) {
  if (argc < 2) return print_overview(rooms), usage_error("", "no command given");
  std::string name = argv[1];
  Args args(argv + 2, argv + argc);
  if (name == "--version" || name == "-V" || name == "version") {
    if (!args.empty()) return usage_error("", "unexpected word '" + args[0] + "' after " + name);
    return std::printf("godwit %s\n", kVersion), flushed(kDone);
  }
  if (name == "--help" || name == "-h" || name == "help") return flushed(run_help(rooms, args));
  const Command* command = find_command(rooms, name);
  if (!command) return unknown_command(name);
  if (wants_help(*command, args)) return print_page(*command), flushed(kDone);
  if (auto wrong = wrong_fault(); wrong && name != "faults") return fail(name, kUsage, *wrong);
  return flushed(command->run(args));
}

}  // namespace godwit
