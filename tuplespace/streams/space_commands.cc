#include "tuplespace/streams/space_commands.hh"

#include <array>
#include <cstdio>

#include "tuplespace/node/home.hh"
#include "tuplespace/space.hh"
#include "tuplespace/streams/spaces.hh"
#include "tuplespace/text.hh"

namespace godwit {
namespace {

constexpr std::string_view kRdUsage =
    R"(usage: godwit rd TUPLE... --space net [--timeout SECONDS] [--json]

Prints a tuple that matches any of the templates, waiting until there is one; it stays where it is.
The space net holds the socket traffic of all pods:

   ("connect", HOST, PORT, CONNECTION, FROM)         waits for an accept
   ("stream", CONNECTION, DIRECTION, OFFSET, DATA)   bytes that their reader has not taken

   TUPLE               ? any field; ?int ?float ?string ?bytes ?bool ?tuple a field of that type;
                       "abc"* a prefix; 1..9 a range; {1, 2} one of; else the value itself
   --timeout SECONDS   gives up with status 124
   --json              prints JSON
)";

constexpr std::string_view kRdpUsage =
    R"(usage: godwit rdp TUPLE... --space net [--timeout SECONDS] [--json]

As godwit rd without waiting, whatever --timeout says: exit status 1 if no tuple matches.
)";

constexpr std::string_view kCountUsage =
    R"(usage: godwit count TUPLE... --space net [--timeout SECONDS] [--json]

Prints how many tuples match any of the templates, as a bare number, which is JSON too, and without
waiting, whatever --timeout says. See godwit help rd.
)";

constexpr std::string_view kRefusedUsage =
    R"(usage: godwit out|in|inp TUPLE... --space S

For spaces other than net, which this version does not have: socket traffic is put and taken by the
programs themselves.
)";

struct Request {
  std::vector<Template> wanted;
  std::string space;
  Deadline deadline = kForever;
  bool json = false;
};

Error misuse(std::string text) { return make_error(std::errc::invalid_argument, std::move(text)); }

Result<Request> parse(const Args& args) {
  static constexpr std::array<OptionSpec, 3> kSpecs = {
      {{"--space", Takes::kValue}, {"--timeout", Takes::kValue}, {"--json"}}};
  auto options = Options::parse(args, kSpecs);
  if (!options) return misuse(options.error().what);
  if (options->words().empty()) return misuse("a TUPLE is needed");
  Request request;
  request.space = options->value("--space").value_or("default");
  request.json = options->has("--json");
  if (auto timeout = options->value("--timeout")) {
    auto seconds = parse_seconds(*timeout);
    if (!seconds) return misuse("--timeout takes seconds, not '" + *timeout + "'");
    request.deadline = std::chrono::steady_clock::now() + *seconds;
  }
  for (const std::string& word : options->words()) {
    auto one = parse_template(word);
    if (!one) return misuse("'" + word + "' is no template: " + one.error().what);
    request.wanted.push_back(std::move(*one));
  }
  return request;
}

void print(const Tuple& tuple, bool json) {
  std::string line = json ? to_json(tuple) : to_text(tuple);
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::putchar('\n');
}

int run_rd(const Request& request, Space& space) {
  auto found = space.rd(request.wanted, request.deadline);
  if (!found) return fail("rd", found.error());
  print(*found, request.json);
  return kDone;
}

int run_rdp(const Request& request, Space& space) {
  auto found = space.rdp(request.wanted);
  if (!found) return fail("rdp", found.error());
  if (!*found) return kAbsent;
  print(**found, request.json);
  return kDone;
}

int run_count(const Request& request, Space& space) {
  auto number = space.count(request.wanted);
  if (!number) return fail("count", number.error());
  std::printf("%llu\n", static_cast<unsigned long long>(*number));
  return kDone;
}

int with_space(const char* command, const Args& args, int (*run)(const Request&, Space&)) {
  auto request = parse(args);
  if (!request) return usage_error(command, request.error().what);
  auto home = Home::open();
  if (!home) return fail(command, home.error());
  auto space = Space::open(*home, request->space);
  if (!space) return fail(command, space.error());
  int status = run(*request, *space);
  for (const std::string& host : space->silent()) fail(command, kDone, "host " + host + " does not answer; its tuples are left out");
  return status;
}

int refuse(const char* command, const Args& args) {
  auto request = parse(args);
  if (!request) return usage_error(command, request.error().what);
  if (request->space != kNetSpace) return fail(command, unknown_space(request->space));
  return fail(command, kRefused, "out, in and inp on socket traffic are for mediators; use rd, rdp or count");
}

constexpr Command kCommands[] = {
    {"rd", "print a tuple, waiting until there is one", kRdUsage, [](const Args& a) { return with_space("rd", a, run_rd); }},
    {"rdp", "print a tuple if there is one", kRdpUsage, [](const Args& a) { return with_space("rdp", a, run_rdp); }},
    {"count", "print how many tuples match", kCountUsage, [](const Args& a) { return with_space("count", a, run_count); }},
    {"out", "", kRefusedUsage, [](const Args& a) { return refuse("out", a); }},
    {"in", "", kRefusedUsage, [](const Args& a) { return refuse("in", a); }},
    {"inp", "", kRefusedUsage, [](const Args& a) { return refuse("inp", a); }},
};

}  // namespace

std::span<const Command> space_commands() { return kCommands; }

}  // namespace godwit
