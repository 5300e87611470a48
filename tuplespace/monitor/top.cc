#include "tuplespace/monitor/top.hh"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>

#include "tuplespace/command/facts.hh"
#include "tuplespace/space/local.hh"

namespace godwit {
namespace {

constexpr std::string_view kTopUsage =
    R"(usage: godwit top [--interval SECONDS] [--count N] [--json]

Shows what goes on: the spaces of this host, busiest first, and the pods of all hosts, with what was
put, taken and read, or received and sent, each second. On a terminal until Ctrl-C, else once.

   --interval SECONDS   between two looks, and the time that rates are of (default: 2)
   --count N            ends after N looks
   --json               prints JSON: an object for each space ("space") and each pod ("pod")
)";

constexpr std::string_view kClear = "\033[H\033[J", kOtherScreen = "\033[?1049h\033[?25l", kOwnScreen = "\033[?25h\033[?1049l";

using Clock = std::chrono::steady_clock;

struct Pod {
  std::string name, host, state;
  uint64_t connections = 0, received = 0, sent = 0;
};

// One look.
struct Look {
  Clock::time_point at;
  std::vector<SpaceFacts> spaces;
  std::vector<Pod> pods;
  uint64_t hosts = 0, present = 0;
};

Result<std::vector<msgpack::object_handle>> ask(Host& host, std::string_view method) {
  Answer answer = host.ask(method, pack_map(), std::chrono::seconds(10));
  if (!answer) return answer.error();
  std::vector<msgpack::object_handle> rows;
  std::vector<msgpack::object> objects;
  if (!decode(answer->get(), objects)) return make_error(std::errc::bad_message, "the node's answer is malformed; see that it is of this version");
  for (const msgpack::object& object : objects) rows.push_back(msgpack::clone(object));
  return rows;
}

Result<Look> look_at(Host& host) {
  Look look{Clock::now(), {}, {}, 0, 0};
  auto spaces = list_spaces(host);
  if (!spaces) return spaces.error();
  look.spaces = std::move(*spaces);
  auto pods = ask(host, "pods"), hosts = ask(host, "hosts");
  if (!pods) return pods.error();
  if (!hosts) return hosts.error();
  for (const auto& row : *pods) {
    Fields facts(row.get());
    look.pods.push_back({facts.get_or<std::string>("pod", ""), facts.get_or<std::string>("host", ""), facts.get_or<std::string>("state", ""),
                         facts.get_or<uint64_t>("connections", 0), facts.get_or<uint64_t>("bytes_in", 0), facts.get_or<uint64_t>("bytes_out", 0)});
  }
  look.hosts = hosts->size();
  for (const auto& row : *hosts) look.present += Fields(row.get()).get_or<bool>("present", false);
  return look;
}

// Each second between two looks; what began anew in between counts from 0.
class Rates {
 public:
  Rates(const Look& before, const Look& now) : seconds_(std::chrono::duration<double>(now.at - before.at).count()) {
    for (const SpaceFacts& space : before.spaces) spaces_[space.name] = space;
    for (const Pod& pod : before.pods) pods_[pod.name] = pod;
  }
  double of(const SpaceFacts& space, uint64_t SpaceFacts::*fact) const { return rate(spaces_, space, fact); }
  double of(const Pod& pod, uint64_t Pod::*fact) const { return rate(pods_, pod, fact); }
  double of_all(const SpaceFacts& space) const { return of(space, &SpaceFacts::put) + of(space, &SpaceFacts::taken) + of(space, &SpaceFacts::read); }

 private:
  template <class T>
  double rate(const std::map<std::string, T>& before, const T& now, uint64_t T::*fact) const {
    auto was = before.find(now.name);
    uint64_t base = was != before.end() && was->second.*fact <= now.*fact ? was->second.*fact : 0;
    return seconds_ > 0 ? static_cast<double>(now.*fact - base) / seconds_ : 0;
  }
  double seconds_;
  std::map<std::string, SpaceFacts> spaces_;
  std::map<std::string, Pod> pods_;
};

// 950, 12.3K, 4.1M: in at most 5 characters, of 1000 or, of bytes, 1024.
std::string short_number(double value, double step = 1000) {
  constexpr std::string_view kUnits = " KMGTP";
  size_t unit = 0;
  while (value >= step && unit + 1 < kUnits.size()) value /= step, ++unit;
  char text[32];
  std::snprintf(text, sizeof text, unit && value < 100 ? "%.1f%c" : "%.0f%c", value, kUnits[unit]);
  return unit ? text : std::string(text, std::string_view(text).size() - 1);
}
std::string short_bytes(double value) { return short_number(value, 1024); }

void sort_busiest_first(std::vector<SpaceFacts>& spaces, const Rates& rates) {
  std::stable_sort(spaces.begin(), spaces.end(),
                   [&](const SpaceFacts& a, const SpaceFacts& b) { return rates.of_all(a) > rates.of_all(b); });
}

using Rows = std::vector<std::vector<std::string>>;

// As many as fit; the last one says how many more there are.
Rows cut(Rows rows, size_t most) {
  if (rows.size() <= most) return rows;
  most = std::max<size_t>(most, 1);
  std::string more = "(" + std::to_string(rows.size() - most + 1) + " more)";
  rows.resize(most);
  rows.back().assign(rows.back().size(), "");
  rows.back()[0] = more;
  return rows;
}

// height  lines that there are; 0: no end.
void print_tables(const Look& now, const Rates& rates, size_t height) {
  Rows spaces, pods;
  for (const SpaceFacts& s : now.spaces) {
    auto rate = [&](uint64_t SpaceFacts::*fact) { return short_number(rates.of(s, fact)); };
    spaces.push_back({s.name, short_number(static_cast<double>(s.tuples)), short_bytes(static_cast<double>(s.bytes)), rate(&SpaceFacts::put),
                      rate(&SpaceFacts::taken), rate(&SpaceFacts::read), std::to_string(s.waiters), s.damaged ? "damaged" : "live"});
  }
  for (const Pod& p : now.pods)
    pods.push_back({p.name, p.host, p.state, std::to_string(p.connections), short_bytes(rates.of(p, &Pod::received)), short_bytes(rates.of(p, &Pod::sent))});
  size_t room = height ? std::max<size_t>(height, 8) - 5 : spaces.size() + pods.size();  // without the first line, headings and blanks
  size_t for_pods = std::min(pods.size(), std::max(room / 2, room - std::min(room, spaces.size())));
  uint64_t connections = 0;
  for (const Pod& p : now.pods) connections += p.connections;
  std::printf("hosts %" PRIu64 " of %" PRIu64 ", pods %zu, connections %" PRIu64 ", spaces %zu\n\n", now.present, now.hosts, pods.size(), connections, spaces.size());
  print_table({"SPACE", "TUPLES", "BYTES", "PUT/S", "TAKEN/S", "READ/S", "WAITERS", "STATE"}, cut(std::move(spaces), room - for_pods));
  if (pods.empty()) return;
  std::printf("\n");
  print_table({"POD", "HOST", "STATE", "CONNECTIONS", "RECEIVED/S", "SENT/S"}, cut(std::move(pods), for_pods));
}

void print_json(const Look& now, const Rates& rates) {
  auto print = [](const Packed& row) { std::printf("%s\n", to_json(unpack(row)->get()).c_str()); };
  for (const SpaceFacts& s : now.spaces)
    print(pack_map("space", s.name, "tuples", s.tuples, "bytes", s.bytes, "put", s.put, "taken", s.taken, "read", s.read, "put_per_s",
                   rates.of(s, &SpaceFacts::put), "taken_per_s", rates.of(s, &SpaceFacts::taken), "read_per_s", rates.of(s, &SpaceFacts::read),
                   "waiters", uint64_t{s.waiters}, "state", s.damaged ? "damaged" : "live"));
  for (const Pod& p : now.pods)
    print(pack_map("pod", p.name, "host", p.host, "state", p.state, "connections", p.connections, "bytes_in", p.received, "bytes_out", p.sent,
                   "bytes_in_per_s", rates.of(p, &Pod::received), "bytes_out_per_s", rates.of(p, &Pod::sent)));
}

// The terminal's other screen while this lives, and Ctrl-C as something to wait for.
class Screen {
 public:
  Screen() {
    sigemptyset(&signals_);
    for (int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals_, signal);
    sigprocmask(SIG_BLOCK, &signals_, nullptr);
    ended_ = UniqueFd(signalfd(-1, &signals_, SFD_CLOEXEC));
    if (is_terminal()) write(kOtherScreen);
  }
  ~Screen() {
    if (is_terminal()) write(kOwnScreen);
  }
  bool is_terminal() const { return terminal_; }
  void clear() const {
    if (is_terminal()) write(kClear);
  }
  size_t height() const {
    winsize size{};
    return is_terminal() && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_row : 0;
  }
  // False: it was ended.
  bool wait(std::chrono::nanoseconds time) const {
    pollfd end{ended_.get(), POLLIN, 0};
    timespec left{time.count() / 1'000'000'000, time.count() % 1'000'000'000};
    return ppoll(&end, 1, &left, nullptr) == 0;
  }

 private:
  static void write(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
  const bool terminal_ = isatty(STDOUT_FILENO);
  sigset_t signals_;
  UniqueFd ended_;
};

// until  0: no end.
int show(Host& host, std::chrono::nanoseconds interval, uint64_t until, bool json) {
  Screen screen;
  auto before = look_at(host);
  if (!before) return fail("top", before.error());
  for (uint64_t looks = 0; (!until || looks < until) && screen.wait(interval); ++looks) {
    auto now = look_at(host);
    if (!now) return fail("top", now.error());
    Rates rates(*before, *now);
    sort_busiest_first(now->spaces, rates);
    screen.clear();
    if (json) print_json(*now, rates);
    else print_tables(*now, rates, screen.height());
    std::fflush(stdout);
    before = std::move(now);
  }
  return kDone;
}

int top(const Args& args) {
  static constexpr std::array<OptionSpec, 3> kSpecs = {{{"--interval", Takes::kValue}, {"--count", Takes::kValue}, {"--json"}}};
  auto options = Options::parse(args, kSpecs);
  if (!options) return usage_error("top", options.error().what);
  if (!options->words().empty()) return usage_error("top", "takes no word '" + options->words()[0] + "'");
  auto interval = parse_seconds(options->value("--interval").value_or("2"));
  if (!interval || interval->count() == 0) return usage_error("top", "--interval takes seconds, not '" + *options->value("--interval") + "'");
  auto count = parse_number(options->value("--count").value_or(isatty(STDOUT_FILENO) ? "0" : "1"), ~0ull);
  if (!count) return usage_error("top", "--count takes a number, not '" + *options->value("--count") + "'");
  auto home = Home::open();
  if (!home) return fail("top", home.error());
  auto host = Host::of(*home);
  if (!host) return fail("top", host.error());
  return show(**host, *interval, *count, options->has("--json"));
}

constexpr Command kCommands[] = {{"top", "show what spaces and pods do", kTopUsage, top}};

}  // namespace

std::span<const Command> monitor_commands() { return kCommands; }

}  // namespace godwit
