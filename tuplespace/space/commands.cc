#include "tuplespace/space/commands.hh"

#include <unistd.h>

#include <array>
#include <cstdio>

#include "tuplespace/command/facts.hh"
#include "tuplespace/space/host_spaces.hh"
#include "tuplespace/space/local.hh"
#include "tuplespace/space/mediating.hh"
#include "tuplespace/space/tuple_lines.hh"
#include "tuplespace/streams/spaces.hh"
#include "tuplespace/text.hh"

namespace godwit {
namespace {

constexpr std::string_view kOutUsage =
    R"(usage: godwit out TUPLE... [--space S] [--timeout SECONDS]
       godwit out TUPLE --ttl SECONDS [--space S] [--timeout SECONDS]
       godwit out TUPLE... --space net --mediate [--timeout SECONDS]

Puts tuples into a space of this host, where they stay until they are taken:

   godwit out '("task", 42, 3.5, true, nil, b"\x00\xff", ("nested", 1))'

   --space S           the space (default: default); see godwit spaces
   --timeout SECONDS   of a full space that makes out wait: gives up with status 124
   --ttl SECONDS       the tuple is gone after that time, unless it is taken before
   --mediate           puts ("stream", CONNECTION, DIRECTION, OFFSET, DATA) between two programs of this
                       host; OFFSET is where the stream ends now
)";

constexpr std::string_view kInUsage =
    R"(usage: godwit in TUPLE... [--space S] [--timeout SECONDS] [--json]
       godwit in TUPLE... --space net --mediate [--timeout SECONDS] [--json]

Takes the oldest tuple that matches any of the templates and prints it, waiting until there is one.
If it cannot be printed it stays where it was. Templates are those of godwit help rd.

   godwit in '("task", ?int, ?float)'

   --space S           the space (default: default); see godwit spaces
   --timeout SECONDS   gives up with status 124
   --json              prints JSON
   --mediate           takes bytes on their way between two programs of this host; their reader never
                       gets them, also if they cannot be printed
)";

constexpr std::string_view kInpUsage =
    R"(usage: godwit inp TUPLE... [--space S] [--json]
       godwit inp TUPLE... --space net --mediate [--json]

As godwit in without waiting: exit status 1 if no tuple matches.

   godwit inp '("task", 1..9, ?)' || echo none

   --space S           the space (default: default); see godwit spaces
   --json              prints JSON
)";

constexpr std::string_view kRdUsage =
    R"(usage: godwit rd TUPLE... [--space S] [--timeout SECONDS] [--json]

Prints the oldest tuple that matches any of the templates, waiting until there is one; it stays where
it is.

   godwit rd '("task", ?int, "abc"*)'

   TUPLE               ? any field; ?int ?float ?string ?bytes ?bool ?nil ?tuple a field of that type;
                       "abc"* a prefix; 1..9 a range; {1, 2} one of; else the value itself
   --space S           the space (default: default); net is the socket traffic of all pods:
                       ("connect", HOST, PORT, CONNECTION, FROM)         waits for an accept
                       ("stream", CONNECTION, DIRECTION, OFFSET, DATA)   bytes not taken yet
   --timeout SECONDS   gives up with status 124
   --json              prints JSON
)";

constexpr std::string_view kRdpUsage =
    R"(usage: godwit rdp TUPLE... [--space S] [--timeout SECONDS] [--json]

As godwit rd without waiting, whatever --timeout says: exit status 1 if no tuple matches.

   godwit rdp '("stream", ?, "c>s", ?, b"GET "*)' --space net

   --space S           the space (default: default); see godwit spaces
   --json              prints JSON
)";

constexpr std::string_view kCountUsage =
    R"(usage: godwit count TUPLE... [--space S] [--timeout SECONDS] [--json]

Prints how many tuples match any of the templates, as a bare number, which is JSON too, and without
waiting, whatever --timeout says. Templates are those of godwit help rd.

   godwit count '("task", ?, ?)' '("job", ?)'

   --space S           the space (default: default); see godwit spaces
)";

constexpr std::string_view kWatchUsage =
    R"(usage: godwit watch TUPLE... [--space S] [--count N] [--timeout SECONDS] [--json]

Prints every tuple that comes to a space from now on and matches any of the templates, also what is taken
at once; it stays where it is. Says "watching" on stderr when it has begun. Templates are those of godwit
help rd. Of net: what the streams of this host hold when it looks, each byte once.

   godwit watch '("result", ?, ?)' --count 10

   --space S           the space (default: default); see godwit spaces
   --count N           ends after N tuples; else it goes on until it is interrupted
   --timeout SECONDS   gives up with status 124
   --json              prints JSON
)";

constexpr std::string_view kCollectUsage =
    R"(usage: godwit collect TUPLE... --to S [--space S] [--copy] [--json]

Moves all tuples that match any of the templates to another space, for everybody else at one moment, and
prints how many. Templates are those of godwit help rd.

   godwit collect '("task", ?, ?)' --to later

   --space S           the space that they are in (default: default); see godwit spaces
   --to S              where they go, behind what is there
   --copy              copies them
)";

constexpr std::string_view kExportUsage =
    R"(usage: godwit export [TUPLE...] [--space S] [--json]

Writes the tuples of a space, or those that match any of the templates, to stdout, oldest first, as they
are at one moment; they stay. The form is msgpack, one array a tuple, which is not for a terminal.

   godwit export --space later > later.tuples

   --space S           the space (default: default); see godwit spaces
   --json              one tuple a line, as JSON
)";

constexpr std::string_view kImportUsage =
    R"(usage: godwit import [--space S] [--timeout SECONDS]

Puts the tuples that it reads from stdin into a space: msgpack or JSON as godwit export writes them, or
tuples as text, one a line. The first byte tells which. It stops at the first that is no tuple or has no
room; those before it are in.

   godwit import --space later < later.tuples

   --space S           the space (default: default); see godwit spaces
   --timeout SECONDS   of a full space that makes out wait: gives up with status 124
)";

constexpr std::string_view kSpacesUsage =
    R"(usage: godwit spaces [--waiting] [--json]
       godwit spaces --create S [--durable] [--capacity BYTES] [--when-full refuse|wait]
       godwit spaces --drop S

Lists the spaces of this host, or creates or drops one.

   --waiting           who waits for what
   --durable           what is done there is on disk before it is acknowledged, and outlives the host
   --capacity BYTES    of memory that its tuples may take, each with what the space adds to it; also as
                       64K, 512M, 4G. Without it, as the host's segment has: listed as "-", or 0 with --json
   --when-full WHAT    refuse (the default): out fails; wait: it waits for room
   --drop S            its tuples are gone, and who waits there gets an error
)";

// What the words of a command say.
struct Request {
  std::vector<std::string> words;
  std::vector<Template> wanted;
  std::string space, to;
  Wait wait;
  uint64_t count = ~uint64_t{0};
  bool json = false, copies = false, mediates = false;
  std::optional<std::chrono::nanoseconds> ttl;
};

Error misuse(std::string text) { return make_error(std::errc::invalid_argument, std::move(text)); }

Result<Request> parse(const Args& args, std::span<const OptionSpec> more = {}) {
  std::vector<OptionSpec> specs = {{"--space", Takes::kValue}, {"--timeout", Takes::kValue}, {"--json"}};
  specs.insert(specs.end(), more.begin(), more.end());
  auto options = Options::parse(args, specs);
  if (!options) return misuse(options.error().what);
  Request request;
  request.words = options->words();
  request.space = options->value("--space").value_or(kDefaultSpace);
  request.to = options->value("--to").value_or("");
  request.json = options->has("--json");
  request.copies = options->has("--copy");
  request.mediates = options->has("--mediate");
  if (request.mediates && request.space != kNetSpace) return misuse("--mediate goes with --space net");
  if (auto count = options->value("--count")) {
    auto number = parse_number(*count, ~uint64_t{0});
    if (!number) return misuse("--count takes a number, not '" + *count + "'");
    request.count = *number;
  }
  if (auto ttl = options->value("--ttl")) {
    request.ttl = parse_seconds(*ttl);
    if (!request.ttl) return misuse("--ttl takes seconds, not '" + *ttl + "'");
  }
  if (auto timeout = options->value("--timeout")) {
    auto seconds = parse_seconds(*timeout);
    if (!seconds) return misuse("--timeout takes seconds, not '" + *timeout + "'");
    request.wait = Wait(*seconds);
  }
  return request;
}

Result<Request> parse_with_templates(const Args& args, std::span<const OptionSpec> more = {}) {
  auto request = parse(args, more);
  if (!request) return request;
  for (const std::string& word : request->words) {
    auto one = parse_template(word);
    if (!one) return misuse("'" + word + "' is no template: " + one.error().what);
    request->wanted.push_back(std::move(*one));
  }
  return request;
}

Error tuple_needed() { return misuse("a TUPLE is needed"); }

// One at least.
Result<Request> parse_wanted(const Args& args, std::span<const OptionSpec> more = {}) {
  auto request = parse_with_templates(args, more);
  if (request && request->wanted.empty()) return tuple_needed();
  return request;
}

Result<std::shared_ptr<HostSpaces>> host() { return HostSpaces::of({}); }

Result<std::shared_ptr<Backend>> open(const std::string& space) {
  auto there = host();
  if (!there) return there.error();
  return (*there)->open(space);
}

// As a mediator, if that was asked for.
Result<std::shared_ptr<Backend>> open_for(const Request& request) {
  if (!request.mediates) return open(request.space);
  auto here = host_itself({});
  if (!here) return here.error();
  auto mediator = MediatorBackend::make(*here);
  if (!mediator) return mediator.error();
  return std::shared_ptr<Backend>(*mediator);
}

/// False: it could not be printed.
bool print(const Tuple& tuple, bool json) {
  return print_line(json ? to_json(tuple) : to_text(tuple), stdout) && std::fflush(stdout) == 0;
}

void print_silent(const char* command, const Backend& space) {
  for (const std::string& host : space.silent())
    fail(command, kDone, "host " + host + " does not answer; its tuples are left out");
}

// ---- out, in, inp, rd, rdp, count, collect

constexpr std::array<OptionSpec, 1> kMediate = {{{"--mediate"}}};

Result<void> put(Backend& space, std::span<const Tuple> tuples, const Request& request) {
  if (tuples.size() > 1) return space.out_all(tuples, &request.wait);
  if (!request.ttl) return space.out(views_of(tuples[0]), request.wait);
  if (Leases* leases = space.leases()) return leases->out_for(*request.ttl, views_of(tuples[0]), request.wait);
  return misuse("--ttl is for spaces that hold tuples; socket traffic has none");
}

int out(const Args& args) {
  static constexpr std::array<OptionSpec, 2> kMore = {{{"--mediate"}, {"--ttl", Takes::kValue}}};
  auto request = parse(args, kMore);
  if (!request) return usage_error("out", request.error().what);
  if (request->words.empty()) return usage_error("out", tuple_needed().what);
  if (request->words.size() > 1 && (request->mediates || request->ttl))
    return usage_error("out", std::string(request->ttl ? "--ttl" : "--mediate") + " puts one TUPLE at a time");
  std::vector<Tuple> tuples;
  for (const std::string& word : request->words) {
    auto tuple = parse_tuple(word);
    if (!tuple) return usage_error("out", "'" + word + "' is no tuple: " + tuple.error().what);
    tuples.push_back(std::move(*tuple));
  }
  auto space = open_for(*request);
  if (!space) return fail("out", space.error());
  auto done = put(**space, tuples, *request);
  return done ? kDone : fail("out", done.error());
}

using Get = Result<bool> (Backend::*)(Backend::AnyOf, const Wait*, const Backend::Receive&);

int get(const char* command, const Args& args, Get operation, bool waits) {
  bool takes = operation == &Backend::in;
  auto request = takes ? parse_wanted(args, kMediate) : parse_wanted(args);
  if (!request) return usage_error(command, request.error().what);
  auto space = open_for(*request);
  if (!space) return fail(command, space.error());
  bool printed = true;
  auto got = (**space.*operation)(TemplateViews(request->wanted), waits ? &request->wait : nullptr, [&](TupleView fields) {
    return printed = print(to_tuple(fields), request->json);
  });
  print_silent(command, **space);
  if (!got) return fail(command, got.error());
  if (!printed && request->mediates) return fail(command, kBroken, "the tuple was taken and cannot be printed; see where stdout leads");
  if (!printed) return fail(command, kRefused, "the tuple cannot be printed and is still in the space; see where stdout leads");
  return *got ? kDone : kAbsent;
}

int in(const Args& args) { return get("in", args, &Backend::in, true); }
int inp(const Args& args) { return get("inp", args, &Backend::in, false); }
int rd(const Args& args) { return get("rd", args, &Backend::rd, true); }
int rdp(const Args& args) { return get("rdp", args, &Backend::rd, false); }

int print_number(const char* command, const Result<uint64_t>& number) {
  if (!number) return fail(command, number.error());
  std::printf("%llu\n", static_cast<unsigned long long>(*number));
  return kDone;
}

int count(const Args& args) {
  auto request = parse_wanted(args);
  if (!request) return usage_error("count", request.error().what);
  auto space = open(request->space);
  if (!space) return fail("count", space.error());
  auto number = (*space)->count(TemplateViews(request->wanted));
  print_silent("count", **space);
  return print_number("count", number);
}

int collect(const Args& args) {
  static constexpr std::array<OptionSpec, 2> kMore = {{{"--to", Takes::kValue}, {"--copy"}}};
  auto request = parse_wanted(args, kMore);
  if (!request) return usage_error("collect", request.error().what);
  if (request->to.empty()) return usage_error("collect", "--to S says where they go");
  auto from = open(request->space), to = open(request->to);
  if (!from) return fail("collect", from.error());
  if (!to) return fail("collect", to.error());
  return print_number("collect", (*from)->collect(**to, TemplateViews(request->wanted), request->copies));
}

int watch(const Args& args) {
  static constexpr std::array<OptionSpec, 1> kMore = {{{"--count", Takes::kValue}}};
  auto request = parse_wanted(args, kMore);
  if (!request) return usage_error("watch", request.error().what);
  auto space = open(request->space);
  auto watcher = space ? (*space)->watch(TemplateViews(request->wanted)) : space.error();
  if (!watcher) return fail("watch", watcher.error());
  std::fprintf(stderr, "watching\n");
  uint64_t missed = 0;
  for (uint64_t shown = 0; shown < request->count; ++shown) {
    bool printed = true;
    auto seen = (*watcher)->next(&request->wait, [&](TupleView tuple) { printed = print(to_tuple(tuple), request->json); });
    if (!seen) return fail("watch", seen.error());
    if (!printed) return fail("watch", kRefused, "the tuple cannot be printed; see where stdout leads");
    if ((*watcher)->missed() != missed)
      fail("watch", kDone, std::to_string((*watcher)->missed() - missed) + " tuples came faster than they could be printed; they are left out");
    missed = (*watcher)->missed();
  }
  return kDone;
}

// ---- export, import

int export_tuples(const Args& args) {
  auto request = parse_with_templates(args);
  if (!request) return usage_error("export", request.error().what);
  if (!request->json && isatty(STDOUT_FILENO))
    return fail("export", kRefused, "msgpack is not for a terminal; give --json, or lead stdout into a file");
  auto space = open(request->space);
  if (!space) return fail("export", space.error());
  auto all = (*space)->all(TemplateViews(request->wanted));
  if (!all) return fail("export", all.error());
  for (const Tuple& tuple : *all) {
    bool written = request->json ? print_line(to_json(tuple), stdout) : print_packed(tuple, stdout);
    if (!written) return fail("export", kRefused, "not all could be written; see where stdout leads");
  }
  return std::fflush(stdout) == 0 ? kDone : fail("export", kRefused, "not all could be written; see where stdout leads");
}

int import_tuples(const Args& args) {
  auto request = parse(args);
  if (!request) return usage_error("import", request.error().what);
  if (!request->words.empty()) return usage_error("import", "takes no word '" + request->words[0] + "'; tuples come from stdin");
  auto space = open(request->space);
  if (!space) return fail("import", space.error());
  uint64_t number = 0;
  auto done = read_tuples(stdin, [&](const Tuple& tuple) -> Result<void> {
    auto put = (*space)->out(views_of(tuple), request->wait);
    if (put) ++number;
    return put;
  });
  if (done) return kDone;
  Error error = done.error();
  return fail("import", exit_status(error), error.message() + " (" + std::to_string(number) + " tuples before it were put in)");
}

// ---- spaces

// A space without a capacity has 0 in JSON and a "-" in the table.
Packed facts_of(const SpaceFacts& space, bool json) {
  Packed capacity = json || space.capacity ? pack(space.capacity) : pack(std::string_view());
  return pack_map("space", space.name, "tuples", space.tuples, "bytes", space.bytes, "capacity", Raw{capacity}, "put",
                  space.put, "taken", space.taken, "read", space.read, "waiters", uint64_t{space.waiters}, "when_full", space.blocks_when_full ? "wait" : "refuse", "durable",
                  space.durable, "state", space.damaged ? "damaged" : "live");
}

Result<std::vector<store::WaitFacts>> waits_here() {
  auto here = host_itself({});
  if (!here) return here.error();
  return list_waits(**here);
}
Result<std::vector<SpaceFacts>> spaces_there() {
  auto there = host();
  if (!there) return there.error();
  return (*there)->list();
}

int list(bool waiting, bool json) {
  auto waits = waiting ? waits_here() : std::vector<store::WaitFacts>();
  auto spaces = waiting ? std::vector<SpaceFacts>() : spaces_there();
  if (!waits) return fail("spaces", waits.error());
  if (!spaces) return fail("spaces", spaces.error());
  Packer rows;
  rows.array(waits->size() + spaces->size());
  for (const store::WaitFacts& wait : *waits) {
    std::string templates;
    for (const Template& one : wait.wanted) templates += (templates.empty() ? "" : " ") + to_text(one);
    rows.add(Raw{pack_map("space", wait.space, "verb", wait.takes ? "in" : "rd", "wanted", templates, "pid", uint64_t{wait.pid})});
  }
  for (const SpaceFacts& space : *spaces) rows.add(Raw{facts_of(space, json)});
  auto packed = unpack(rows.take());
  std::vector<msgpack::object> objects;
  if (!packed || !decode(packed->get(), objects)) return fail("spaces", kBroken, "its own facts are malformed");
  print_facts(objects, json, waiting ? std::vector<std::string>{"space", "verb", "wanted", "pid"}
                                     : std::vector<std::string>{"space", "tuples", "bytes", "capacity", "waiters", "when_full", "durable", "state"});
  return kDone;
}

int spaces(const Args& args) {
  static constexpr std::array<OptionSpec, 7> kSpecs = {{{"--waiting"}, {"--json"}, {"--create", Takes::kValue}, {"--durable"},
                                                        {"--capacity", Takes::kValue}, {"--when-full", Takes::kValue},
                                                        {"--drop", Takes::kValue}}};
  auto options = Options::parse(args, kSpecs);
  if (!options) return usage_error("spaces", options.error().what);
  auto create = options->value("--create"), drop = options->value("--drop");
  if (!options->words().empty()) return usage_error("spaces", "takes no word '" + options->words()[0] + "'");
  if (options->has("--waiting") + create.has_value() + drop.has_value() > 1)
    return usage_error("spaces", "--waiting, --create and --drop are one at a time");
  if (!create && (options->has("--durable") || options->has("--capacity") || options->has("--when-full")))
    return usage_error("spaces", "--durable, --capacity and --when-full go with --create");
  if (!create && !drop) return list(options->has("--waiting"), options->has("--json"));
  SpaceOptions made;
  made.durable = options->has("--durable");
  std::string when_full = options->value("--when-full").value_or("refuse");
  if (when_full != "refuse" && when_full != "wait") return usage_error("spaces", "--when-full is refuse or wait");
  made.blocks_when_full = when_full == "wait";
  if (auto capacity = options->value("--capacity")) {
    auto bytes = parse_size(*capacity, uint64_t{1} << 40);
    if (!bytes || *bytes == 0)
      return usage_error("spaces", "--capacity takes bytes, or as in 64K, 512M, 4G, up to 1024G, not '" + *capacity + "'");
    made.capacity = *bytes;
  }
  auto there = host();
  if (!there) return fail("spaces", there.error());
  auto done = drop ? (*there)->drop(*drop) : (*there)->create(*create, made);
  return done ? kDone : fail("spaces", done.error());
}

constexpr Command kCommands[] = {
    {"out", "put tuples into a space", kOutUsage, out},
    {"in", "take a tuple, waiting until there is one", kInUsage, in},
    {"inp", "take a tuple if there is one", kInpUsage, inp},
    {"rd", "print a tuple, waiting until there is one", kRdUsage, rd},
    {"rdp", "print a tuple if there is one", kRdpUsage, rdp},
    {"count", "print how many tuples match", kCountUsage, count},
    {"watch", "print the tuples that come", kWatchUsage, watch},
    {"collect", "move tuples to another space", kCollectUsage, collect},
    {"export", "write the tuples of a space to stdout", kExportUsage, export_tuples},
    {"import", "put tuples from stdin into a space", kImportUsage, import_tuples},
    {"spaces", "list, create and drop spaces", kSpacesUsage, spaces},
};

}  // namespace

std::span<const Command> space_commands() { return kCommands; }

}  // namespace godwit
