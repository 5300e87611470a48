#include "tuplespace/streams/space_commands.hh"

#include <array>
#include <cstdio>

#include "tuplespace/command/facts.hh"
#include "tuplespace/node/client.hh"
#include "tuplespace/node/home.hh"
#include "tuplespace/space.hh"
#include "tuplespace/store/store.hh"
#include "tuplespace/streams/host_segment.hh"
#include "tuplespace/streams/mediate.hh"
#include "tuplespace/streams/spaces.hh"
#include "tuplespace/text.hh"

namespace godwit {
namespace {

constexpr std::string_view kOutUsage =
    R"(usage: godwit out TUPLE... [--space S] [--timeout SECONDS]
       godwit out TUPLE... --space net --mediate [--timeout SECONDS]

Puts tuples into a space of this host, where they stay until they are taken:

   godwit out '("task", 42, 3.5, true, nil, b"\\x00\\xff", ("nested", 1))'

   --space S           the space (default: default); see godwit spaces
   --timeout SECONDS   of a full space that makes out wait: gives up with status 124
   --mediate           puts ("stream", CONNECTION, DIRECTION, OFFSET, DATA) between two programs of this
                       host; OFFSET is where the stream ends now
)";

constexpr std::string_view kInUsage =
    R"(usage: godwit in TUPLE... [--space S] [--timeout SECONDS] [--json]
       godwit in TUPLE... --space net --mediate [--timeout SECONDS] [--json]

Takes the oldest tuple that matches any of the templates and prints it, waiting until there is one.
If it cannot be printed it stays where it was. Templates are those of godwit help rd.

   --timeout SECONDS   gives up with status 124
   --mediate           takes bytes on their way between two programs of this host; their reader never
                       gets them, also if they cannot be printed
)";

constexpr std::string_view kInpUsage =
    R"(usage: godwit inp TUPLE... [--space S] [--json]
       godwit inp TUPLE... --space net --mediate [--json]

As godwit in without waiting: exit status 1 if no tuple matches.
)";

constexpr std::string_view kRdUsage =
    R"(usage: godwit rd TUPLE... [--space S] [--timeout SECONDS] [--json]

Prints the oldest tuple that matches any of the templates, waiting until there is one; it stays where
it is.

   TUPLE               ? any field; ?int ?float ?string ?bytes ?bool ?tuple a field of that type;
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
)";

constexpr std::string_view kCountUsage =
    R"(usage: godwit count TUPLE... [--space S] [--timeout SECONDS] [--json]

Prints how many tuples match any of the templates, as a bare number, which is JSON too, and without
waiting, whatever --timeout says. See godwit help rd.
)";

constexpr std::string_view kSpacesUsage =
    R"(usage: godwit spaces [--waiting] [--json]
       godwit spaces --create S [--capacity BYTES] [--when-full refuse|wait]
       godwit spaces --drop S

Lists the spaces of this host, or creates or drops one.

   --waiting           who waits for what
   --capacity BYTES    of memory that its tuples may take, each with what the space adds to it
   --when-full WHAT    refuse (the default): out fails; wait: it waits for room
   --drop S            its tuples are gone, and who waits there gets an error
)";

constexpr std::string_view kMediators = "out, in and inp on socket traffic are for mediators; use rd, rdp or count, or see --mediate";

struct Request {
  std::vector<Template> wanted;
  std::vector<std::string> words;
  std::string space;
  Deadline deadline = kForever;
  bool json = false;
  bool mediate = false;
};

Error misuse(std::string text) { return make_error(std::errc::invalid_argument, std::move(text)); }

Result<Request> parse(const Args& args) {
  static constexpr std::array<OptionSpec, 4> kSpecs = {
      {{"--space", Takes::kValue}, {"--timeout", Takes::kValue}, {"--json"}, {"--mediate"}}};
  auto options = Options::parse(args, kSpecs);
  if (!options) return misuse(options.error().what);
  if (options->words().empty()) return misuse("a TUPLE is needed");
  Request request;
  request.space = options->value("--space").value_or("default");
  request.json = options->has("--json");
  request.mediate = options->has("--mediate");
  if (request.mediate && request.space != kNetSpace) return misuse("--mediate goes with --space net");
  if (auto timeout = options->value("--timeout")) {
    auto seconds = parse_seconds(*timeout);
    if (!seconds) return misuse("--timeout takes seconds, not '" + *timeout + "'");
    request.deadline = std::chrono::steady_clock::now() + *seconds;
  }
  request.words = options->words();
  return request;
}

/// False: it could not be printed.
bool print(const Tuple& tuple, bool json) {
  std::string line = (json ? to_json(tuple) : to_text(tuple)) + "\n";
  return std::fwrite(line.data(), 1, line.size(), stdout) == line.size() && std::fflush(stdout) == 0;
}

// ---- a space of this host

Result<shared::Segment> host_segment() {
  auto home = Home::open();
  if (!home) return home.error();
  // The node reaps who is killed: it starts with the first use of the host.
  if (auto node = NodeClient::connect(*home); !node) return node.error();
  return open_host_segment(*home);
}

Result<store::Store> open_store(const std::string& space) {
  auto segment = host_segment();
  if (!segment) return segment.error();
  return store::Store::open(*segment, space);
}

using Get = Result<bool> (store::Store::*)(std::span<const TemplateView>, const store::Wait*, const store::Store::Receive&);

int get(const char* command, const Request& request, Get operation, bool waits) {
  auto space = open_store(request.space);
  if (!space) return fail(command, space.error());
  store::Wait wait{request.deadline, {}};
  bool printed = true;
  auto got = ((*space).*operation)(TemplateViews(request.wanted), waits ? &wait : nullptr, [&](TupleView fields) {
    return printed = print(to_tuple(fields), request.json);
  });
  if (!got) return fail(command, got.error());
  if (!printed) return fail(command, kRefused, "the tuple cannot be printed and is still in the space; see where stdout leads");
  return *got ? kDone : kAbsent;
}

int count(const Request& request) {
  auto space = open_store(request.space);
  if (!space) return fail("count", space.error());
  auto number = space->count(TemplateViews(request.wanted));
  if (!number) return fail("count", number.error());
  std::printf("%llu\n", static_cast<unsigned long long>(*number));
  return kDone;
}

// ---- the space net, as a mediator

int put_as_mediator(const Request& request, std::span<const Tuple> tuples) {
  auto put = mediate_out(tuples, request.deadline);
  return put ? kDone : fail("out", put.error());
}

int take_as_mediator(const char* command, const Request& request) {
  auto taken = mediate_in(request.wanted, command == std::string_view("in"), request.deadline);
  if (!taken) return fail(command, taken.error());
  if (!*taken) return kAbsent;
  if (print(**taken, request.json)) return kDone;
  return fail(command, kBroken, "the tuple was taken and cannot be printed; see where stdout leads");
}

int out(const Args& args) {
  auto request = parse(args);
  if (!request) return usage_error("out", request.error().what);
  if (request->space == kNetSpace && !request->mediate) return fail("out", kRefused, std::string(kMediators));
  std::vector<Tuple> tuples;
  for (const std::string& word : request->words) {
    auto tuple = parse_tuple(word);
    if (!tuple) return usage_error("out", "'" + word + "' is no tuple: " + tuple.error().what);
    tuples.push_back(std::move(*tuple));
  }
  if (request->mediate) return put_as_mediator(*request, tuples);
  auto space = open_store(request->space);
  if (!space) return fail("out", space.error());
  store::Wait wait{request->deadline, {}};
  for (const Tuple& tuple : tuples) {
    if (auto done = space->out(views_of(tuple), &wait); !done) return fail("out", done.error());
  }
  return kDone;
}

int list(bool waiting, bool json) {
  auto segment = host_segment();
  auto desk = segment ? store::Desk::of(*segment) : segment.error();
  if (!desk) return fail("spaces", desk.error());
  Packer rows;
  auto waits = waiting ? store::list_waits(**desk) : std::vector<store::WaitFacts>();
  auto spaces = waiting ? std::vector<store::SpaceFacts>() : store::list_spaces(**desk);
  rows.array(waits.size() + spaces.size());
  for (const store::WaitFacts& wait : waits) {
    std::string templates;
    for (const Template& one : wait.wanted) templates += (templates.empty() ? "" : " ") + to_text(one);
    rows.add(Raw{pack_map("space", wait.space, "verb", wait.takes ? "in" : "rd", "wanted", templates, "pid", uint64_t{wait.pid})});
  }
  for (const store::SpaceFacts& space : spaces)
    rows.add(Raw{pack_map("space", space.name, "tuples", space.tuples, "bytes", space.bytes, "capacity", space.capacity, "waiters",
                          uint64_t{space.waiters}, "when_full", space.blocks_when_full ? "wait" : "refuse", "state",
                          space.damaged ? "damaged" : "live")});
  auto packed = unpack(rows.take());
  std::vector<msgpack::object> objects;
  if (!packed || !decode(packed->get(), objects)) return fail("spaces", kBroken, "its own facts are malformed");
  print_facts(objects, json, waiting ? std::vector<std::string>{"space", "verb", "wanted", "pid"}
                                     : std::vector<std::string>{"space", "tuples", "bytes", "capacity", "waiters", "when_full", "state"});
  return kDone;
}

int spaces(const Args& args) {
  static constexpr std::array<OptionSpec, 6> kSpecs = {{{"--waiting"}, {"--json"}, {"--create", Takes::kValue},
                                                        {"--capacity", Takes::kValue}, {"--when-full", Takes::kValue},
                                                        {"--drop", Takes::kValue}}};
  auto options = Options::parse(args, kSpecs);
  if (!options) return usage_error("spaces", options.error().what);
  auto create = options->value("--create"), drop = options->value("--drop");
  if (!options->words().empty()) return usage_error("spaces", "takes no word '" + options->words()[0] + "'");
  if (create && drop) return usage_error("spaces", "--create and --drop are one at a time");
  if (!create && (options->has("--capacity") || options->has("--when-full")))
    return usage_error("spaces", "--capacity and --when-full go with --create");
  if (!create && !drop) return list(options->has("--waiting"), options->has("--json"));
  store::SpaceOptions made;
  std::string when_full = options->value("--when-full").value_or("refuse");
  if (when_full != "refuse" && when_full != "wait") return usage_error("spaces", "--when-full is refuse or wait");
  made.blocks_when_full = when_full == "wait";
  if (auto capacity = options->value("--capacity")) {
    auto bytes = parse_number(*capacity, uint64_t{1} << 40);
    if (!bytes || *bytes == 0) return usage_error("spaces", "--capacity takes bytes, not '" + *capacity + "'");
    made.capacity = *bytes;
  }
  if (create.value_or(drop.value_or("")) == kNetSpace)
    return fail("spaces", kRefused, "net is the socket traffic, always there; choose another name");
  auto segment = host_segment();
  auto desk = segment ? store::Desk::of(*segment) : segment.error();
  if (!desk) return fail("spaces", desk.error());
  if (drop) {
    auto dropped = store::drop_space(**desk, *drop);
    return dropped ? kDone : fail("spaces", dropped.error());
  }
  auto root = store::create_space(**desk, *create, made);
  return root ? kDone : fail("spaces", root.error());
}

// ---- the space net

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

int with_net(const char* command, const Request& request, int (*run)(const Request&, Space&)) {
  auto home = Home::open();
  if (!home) return fail(command, home.error());
  auto space = Space::open(*home, request.space);
  if (!space) return fail(command, space.error());
  int status = run(request, *space);
  for (const std::string& host : space->silent()) fail(command, kDone, "host " + host + " does not answer; its tuples are left out");
  return status;
}

// Runs what the command is for the space net, or for any other.
int with_space(const char* command, const Args& args, int (*net)(const Request&, Space&), int (*other)(const Request&)) {
  auto request = parse(args);
  if (request)
    for (const std::string& word : request->words) {
      auto one = parse_template(word);
      if (!one) return usage_error(command, "'" + word + "' is no template: " + one.error().what);
      request->wanted.push_back(std::move(*one));
    }
  if (!request) return usage_error(command, request.error().what);
  if (request->space != kNetSpace) return other(*request);
  if (net && request->mediate) return usage_error(command, "--mediate goes with in, inp and out; looking needs none");
  if (!net && request->mediate) return take_as_mediator(command, *request);
  return net ? with_net(command, *request, net) : fail(command, kRefused, std::string(kMediators));
}

int in(const Args& args) {
  return with_space("in", args, nullptr, [](const Request& r) { return get("in", r, &store::Store::in, true); });
}
int inp(const Args& args) {
  return with_space("inp", args, nullptr, [](const Request& r) { return get("inp", r, &store::Store::in, false); });
}
int rd(const Args& args) {
  return with_space("rd", args, run_rd, [](const Request& r) { return get("rd", r, &store::Store::rd, true); });
}
int rdp(const Args& args) {
  return with_space("rdp", args, run_rdp, [](const Request& r) { return get("rdp", r, &store::Store::rd, false); });
}

constexpr Command kCommands[] = {
    {"out", "put tuples into a space", kOutUsage, out},
    {"in", "take a tuple, waiting until there is one", kInUsage, in},
    {"inp", "take a tuple if there is one", kInpUsage, inp},
    {"rd", "print a tuple, waiting until there is one", kRdUsage, rd},
    {"rdp", "print a tuple if there is one", kRdpUsage, rdp},
    {"count", "print how many tuples match", kCountUsage, [](const Args& a) { return with_space("count", a, run_count, count); }},
    {"spaces", "list, create and drop spaces", kSpacesUsage, spaces},
};

}  // namespace

std::span<const Command> space_commands() { return kCommands; }

}  // namespace godwit
