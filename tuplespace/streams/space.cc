// The public Space: looks at this host's segment itself, and asks the other hosts through the node.
#include "tuplespace/space.hh"

#include <algorithm>

#include "tuplespace/node/client.hh"
#include "tuplespace/streams/host_segment.hh"
#include "tuplespace/streams/source.hh"
#include "tuplespace/streams/spaces.hh"

namespace godwit {
namespace {

using std::chrono::milliseconds;

// A wait is renewed after this long, so that it covers hosts that have joined, and a dead client's wait ends.
constexpr auto kRound = std::chrono::seconds(10);
constexpr auto kPatience = std::chrono::seconds(5);  // of the client, beyond what the node may take

}  // namespace

struct Space::State {
  explicit State(const Home& home) : home(home) {}
  ~State() {
    if (self.slot) shared::release_slot(self);
  }

  Result<void> join() {
    auto segment = open_host_segment(home);
    if (!segment) return segment.error();
    self.segment = *segment;
    if (int e = shared::claim_slot(self, self.segment.area_of(0)))
      return Error{std::error_code(-e, std::generic_category()), "join the segment"};
    source = std::make_unique<StreamSource>(self);
    return {};
  }

  Answer ask(std::string_view method, std::span<const Template> wanted, bool others, milliseconds time) {
    if (!node) {
      auto connected = NodeClient::connect(home);
      if (!connected) return connected.error();
      node = std::make_unique<NodeClient>(std::move(*connected));
    }
    Packed templates = pack_templates({wanted.begin(), wanted.end()});
    Answer answer = node->call(method, pack_map("space", kNetSpace, "templates", Raw{templates}, "others", others,
                                                "milliseconds", static_cast<uint32_t>(time.count())), time + kPatience);
    if (answer) silent = Fields(answer->get()).get_or<std::vector<std::string>>("silent", {});
    return answer;
  }

  Result<std::optional<Tuple>> ask_for_tuple(std::string_view method, std::span<const Template> wanted, bool others,
                                             milliseconds time) {
    Answer answer = ask(method, wanted, others, time);
    if (!answer) return answer.error();
    const msgpack::object* tuple = Fields(answer->get()).find("tuple");
    if (!tuple) return make_error(std::errc::bad_message, "the node's answer is malformed; see that it is of this version");
    return unpack_found(*tuple);
  }

  // Other hosts, as the node knows them.
  Result<uint64_t> other_hosts() {
    Answer answer = ask("space.count", {}, true, {});
    if (!answer) return answer.error();
    return Fields(answer->get()).get_or<uint64_t>("hosts", 0);
  }

  const Home& home;
  shared::Thread self;
  std::unique_ptr<StreamSource> source;
  std::unique_ptr<NodeClient> node;  // when first needed
  std::vector<std::string> silent;
};

Space::Space(std::unique_ptr<State> state) : state_(std::move(state)) {}
Space::Space(Space&&) noexcept = default;
Space& Space::operator=(Space&&) noexcept = default;
Space::~Space() = default;
const std::vector<std::string>& Space::silent() const { return state_->silent; }

Result<Space> Space::open(const Home& home, std::string_view name) {
  if (name != kNetSpace) return unknown_space(name);
  auto state = std::make_unique<State>(home);
  if (auto joined = state->join(); !joined) return joined.error();
  return Space(std::move(state));
}

Result<std::optional<Tuple>> Space::rdp(std::span<const Template> wanted) {
  state_->silent.clear();
  if (auto found = godwit::rdp(*state_->source, TemplateViews(wanted))) return found;
  return state_->ask_for_tuple("space.rdp", wanted, true, {});
}

Result<uint64_t> Space::count(std::span<const Template> wanted) {
  state_->silent.clear();
  Answer answer = state_->ask("space.count", wanted, true, {});
  if (!answer) return answer.error();
  uint64_t others = 0;
  if (auto bad = Fields(answer->get()).need("count", others)) return *bad;
  return godwit::count(*state_->source, TemplateViews(wanted)) + others;
}

// On a host alone the segment itself wakes us; in a community the nodes wait on all hosts at once.
Result<Tuple> Space::rd(std::span<const Template> wanted, Deadline deadline) {
  state_->silent.clear();
  for (;;) {
    if (auto found = godwit::rdp(*state_->source, TemplateViews(wanted))) return std::move(*found);
    auto others = state_->other_hosts();
    if (!others) return others.error();
    Deadline now = std::chrono::steady_clock::now();
    auto time = std::chrono::ceil<milliseconds>(std::min<std::chrono::nanoseconds>(deadline - now, kRound));
    if (time <= milliseconds(0)) return make_error(std::errc::timed_out, "no such tuple came in time; godwit rdp looks without waiting");
    if (*others == 0) {
      if (auto found = godwit::rd(*state_->source, TemplateViews(wanted), std::min(deadline, now + kRound))) return std::move(*found);
      continue;
    }
    auto found = state_->ask_for_tuple("space.rd", wanted, false, time);
    if (!found) return found.error();
    if (*found) return std::move(**found);
  }
}

}  // namespace godwit
