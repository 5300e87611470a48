// The frame of the `godwit` executable: commands, their options, their errors.
//
// A room exposes `std::span<const Command> xyz_commands()`; godwit.cc lists the rooms. What must stay
// true: an error is one line on stderr, `godwit COMMAND: what is wrong; what to do`, and the exit
// status is one of Exit's; scripts rely on both.
#pragma once
#include <chrono>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/result.hh"

namespace godwit {

enum Exit : int {
  kDone = 0,
  kAbsent = 1,    // inp, rdp: no such tuple
  kUsage = 2,     // the command line is wrong
  kUnknown = 3,   // no such pod or host
  kRefused = 4,   // refused or failed, nothing changed
  kTimedOut = 124,
  kBroken = 125,  // Godwit itself failed
};

using Args = std::vector<std::string>;  // the words after the command's name

struct Command {
  std::string_view name;
  std::string_view summary;  // one line in `godwit --help`; empty: not listed there
  std::string_view usage;    // the page that `godwit help NAME` prints; begins with "usage: godwit NAME"
  int (*run)(const Args& args);
  bool program_follows = false;  // the first word that is no option ends the options, as in env(1)
};

enum class Takes { kNothing, kValue };
struct OptionSpec {
  std::string_view name;  // "--json", "-f"
  Takes takes = Takes::kNothing;
};

/// The words of a command line, told apart.
class Options {
 public:
  /// Errors (EINVAL) are fit for usage_error. `--name=value` and `--name value` are the same; `--` ends
  /// the options, and so does the first other word if `program_follows`.
  static Result<Options> parse(const Args& args, std::span<const OptionSpec> specs,
                               bool program_follows = false);
  bool has(std::string_view name) const { return values_.contains(std::string(name)); }
  /// The last value given.
  std::optional<std::string> value(std::string_view name) const;
  std::vector<std::string> all(std::string_view name) const;
  const std::vector<std::string>& words() const { return words_; }

 private:
  std::map<std::string, std::vector<std::string>> values_;
  std::vector<std::string> words_;
};

/// Prints `godwit COMMAND: TEXT` and returns `status`, so that a command ends with `return fail(...)`.
int fail(std::string_view command, int status, std::string_view text);
/// As fail, with the text and the exit status that the error calls for.
int fail(std::string_view command, const Error& error);
/// Exit kUsage; adds where to read on.
int usage_error(std::string_view command, std::string_view text);
/// no_such_process, host_unreachable's cousin no_such_device_or_address: kUnknown; timed_out: 124; else 4.
int exit_status(const Error& error);
/// An error as one line. A `what` with "; " in it says everything; else the code's text is added.
std::string describe(const Error& error);

/// Seconds, possibly fractional, not negative.
std::optional<std::chrono::nanoseconds> parse_seconds(std::string_view text);
std::optional<uint64_t> parse_number(std::string_view text, uint64_t max);
/// Bytes: a number, or one with K, M or G behind it, of 1024, 1024^2, 1024^3.
std::optional<uint64_t> parse_size(std::string_view text, uint64_t max);
/// "10.0.0.1:80" or "[::1]:80". Port 0 is allowed.
struct AddressPort {
  std::string address;
  uint16_t port = 0;
};
std::optional<AddressPort> parse_address(std::string_view text);

/// Rows under headings, columns padded to the widest, as ps(1) does it.
void print_table(const std::vector<std::string>& headings,
                 const std::vector<std::vector<std::string>>& rows);

/// The whole of main: finds the command and runs it.
int command_main(int argc, char** argv, std::span<const std::span<const Command>> rooms);

}  // namespace godwit
