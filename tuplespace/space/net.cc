#include "tuplespace/space/net.hh"

#include <algorithm>
#include <deque>
#include <map>

#include "tuplespace/shared/bell.hh"
#include "tuplespace/store/desk.hh"
#include "tuplespace/streams/source.hh"
#include "tuplespace/streams/spaces.hh"

namespace godwit {
namespace {

using std::chrono::milliseconds;

// A wait is renewed after this long, so that it covers hosts that have joined, and a dead client's wait ends.
constexpr auto kRound = std::chrono::seconds(10);
constexpr auto kStoppableRound = std::chrono::seconds(1);  // of a wait at the node, which no stop_token ends
constexpr auto kPatience = std::chrono::seconds(5);        // of the client, beyond what the node may take

Error mediators_only() {
  return make_error(std::errc::operation_not_permitted, "out, in and inp on socket traffic are for mediators (Mediator, --mediate); use rd, rdp or count");
}

Error stopped() { return make_error(std::errc::operation_canceled, "the wait was stopped"); }

// What of this host's traffic has not been shown yet, each time it looks.
class NetWatcher final : public Watcher {
 public:
  NetWatcher(shared::Thread& self, Backend::AnyOf any_of) : source_(self), segment_(self.segment) {
    for (TemplateView one : any_of) wanted_.push_back(to_template(one));
  }

  Result<bool> next(const Wait* wait, const Show& show) override {
    std::optional<std::stop_callback<std::function<void()>>> nudge;
    if (wait) nudge.emplace(wait->stop, [this] { shared::wake_watchers(segment_); });
    for (;;) {
      if (!fresh_.empty()) {
        show(views_of(fresh_.front()));
        fresh_.pop_front();
        return true;
      }
      uint32_t mark = source_.subscribe(TemplateViews(wanted_));
      look();
      if (!fresh_.empty()) continue;
      if (!wait) return false;
      if (wait->stop.stop_requested()) return stopped();
      if (std::chrono::steady_clock::now() >= wait->deadline) return make_error(std::errc::timed_out, "the time is over; without one a watch goes on");
      source_.wait(mark, wait->deadline);
    }
  }
  uint64_t missed() const override { return 0; }

 private:
  // Of a stream, the bytes behind those that were shown. What is not there any more comes with later bytes, if it does.
  void look() {
    std::map<std::string, int64_t> there;
    source_.for_each(TemplateViews(wanted_), [&](TupleView tuple) {
      bool request = tuple[0].text == "connect";
      std::string name = request ? std::string(tuple[3].text) : std::string(tuple[1].text).append(tuple[2].text);
      auto before = shown_.find(name);
      int64_t shown = before == shown_.end() ? 0 : before->second;
      int64_t from = request ? shown : std::max(shown, tuple[3].integer);
      int64_t end = request ? 1 : tuple[3].integer + static_cast<int64_t>(tuple[4].text.size());
      if (from < end) keep_if_wanted(tuple, from);
      there[name] = end;
      return true;
    });
    shown_ = std::move(there);
  }
  void keep_if_wanted(TupleView tuple, int64_t from) {
    std::vector<FieldView> fields(tuple.begin(), tuple.end());
    if (fields[0].text == "stream") {
      fields[4].text.remove_prefix(static_cast<size_t>(from - fields[3].integer));
      fields[3] = FieldView::of(from);
    }
    if (match_any(TemplateViews(wanted_), fields)) fresh_.push_back(to_tuple(fields));
  }

  StreamSource source_;
  shared::Segment segment_;
  std::vector<Template> wanted_;
  std::deque<Tuple> fresh_;
  std::map<std::string, int64_t> shown_;  // of what is there, by connection and direction: where what was shown ends
};

class NetBackend final : public Backend {
 public:
  explicit NetBackend(std::shared_ptr<Host> host) : host_(std::move(host)) {}

  Result<void> out(TupleView, const Wait&) override { return mediators_only(); }
  Result<bool> out_if(bool, AnyOf, TupleView) override { return mediators_only(); }
  Result<bool> in(AnyOf, const Wait*, const Receive&) override { return mediators_only(); }

  Result<bool> rd(AnyOf any_of, const Wait* wait, const Receive& receive) override {
    forget_silent();
    auto desk = store::Desk::of(host_->segment());
    if (!desk) return desk.error();
    StreamSource source((*desk)->self);
    auto found = wait ? await(source, any_of, *wait) : look(source, any_of);
    if (!found) return found.error();
    return *found && receive(views_of(**found));
  }

  Result<uint64_t> count(AnyOf any_of) override {
    forget_silent();
    auto desk = store::Desk::of(host_->segment());
    if (!desk) return desk.error();
    Answer answer = ask("space.count", any_of, true, {});
    if (!answer) return answer.error();
    uint64_t others = 0;
    if (auto bad = Fields(answer->get()).need("count", others)) return *bad;
    StreamSource source((*desk)->self);
    return godwit::count(source, any_of) + others;
  }

  // Of this host.
  Result<std::vector<Tuple>> all(AnyOf any_of) override {
    auto desk = store::Desk::of(host_->segment());
    if (!desk) return desk.error();
    std::vector<Tuple> tuples;
    StreamSource((*desk)->self).for_each(any_of, [&](TupleView tuple) {
      if (any_of.empty() || match_any(any_of, tuple)) tuples.push_back(to_tuple(tuple));
      return true;
    });
    return tuples;
  }

  Result<uint64_t> collect(Backend& to, AnyOf any_of, bool copies) override {
    if (!copies)
      return make_error(std::errc::operation_not_permitted, "socket traffic can only be copied; use copy_collect, or collect --copy");
    auto tuples = all(any_of);
    if (!tuples) return tuples.error();
    auto put = to.out_all(*tuples, nullptr);
    if (!put) return put.error();
    return tuples->size();
  }

  Result<void> out_all(std::span<const Tuple>, const Wait*) override { return mediators_only(); }

  Result<std::unique_ptr<Watcher>> watch(AnyOf any_of) override {
    auto desk = store::Desk::of(host_->segment());
    if (!desk) return desk.error();
    return std::unique_ptr<Watcher>(std::make_unique<NetWatcher>((*desk)->self, any_of));
  }

  std::vector<std::string> silent() const override {
    std::lock_guard guard(lock_);
    return silent_;
  }

 private:
  using Found = Result<std::optional<Tuple>>;

  // Of this host first, else of another.
  Found look(StreamSource& source, AnyOf any_of) {
    if (auto found = godwit::rdp(source, any_of)) return found;
    return ask_for_tuple("space.rdp", any_of, true, {});
  }

  // On a host alone the segment itself wakes us; in a community the nodes wait on all hosts at once.
  Found await(StreamSource& source, AnyOf any_of, const Wait& wait) {
    std::stop_callback nudge(wait.stop, [this] { shared::wake_watchers(host_->segment()); });
    for (;;) {
      if (auto found = godwit::rdp(source, any_of)) return found;
      if (wait.stop.stop_requested()) return stopped();
      auto others = other_hosts();
      if (!others) return others.error();
      Deadline now = std::chrono::steady_clock::now();
      auto longest = *others && wait.stop.stop_possible() ? kStoppableRound : kRound;
      if (wait.deadline <= now) return look_once_more(*others, any_of);
      auto time = std::chrono::ceil<milliseconds>(std::min<std::chrono::nanoseconds>(wait.deadline - now, longest));
      if (*others == 0) {
        if (auto found = wait_here(source, any_of, std::min(wait.deadline, now + longest), wait.stop)) return found;
        continue;
      }
      auto found = ask_for_tuple("space.rd", any_of, false, time);
      if (!found || *found) return found;
    }
  }

  // When the time is over.
  Found look_once_more(uint64_t others, AnyOf any_of) {
    auto found = others ? ask_for_tuple("space.rdp", any_of, true, {}) : std::optional<Tuple>();
    if (found && !*found) return make_error(std::errc::timed_out, "no such tuple came in time; godwit rdp looks without waiting");
    return found;
  }

  // A stop rings the watchers: so it is seen before the sleep, or ends it.
  static std::optional<Tuple> wait_here(StreamSource& source, AnyOf any_of, Deadline deadline, const std::stop_token& stop) {
    uint32_t mark = source.subscribe(any_of);
    if (stop.stop_requested()) return std::nullopt;
    auto found = godwit::rdp(source, any_of);
    if (!found) source.wait(mark, deadline);
    return found;
  }

  Answer ask(std::string_view method, AnyOf any_of, bool others, milliseconds time) {
    Answer answer = host_->ask(method, pack_map("space", kNetSpace, "templates", Raw{pack_templates(any_of)}, "others", others,
                                                "milliseconds", static_cast<uint32_t>(time.count())), time + kPatience);
    // Not the caller's wait is over, but the node does not answer.
    if (!answer && answer.error().code == std::errc::timed_out)
      return make_error(std::errc::resource_unavailable_try_again, answer.error().what);
    if (answer) {
      std::lock_guard guard(lock_);
      silent_ = Fields(answer->get()).get_or<std::vector<std::string>>("silent", {});
    }
    return answer;
  }

  Found ask_for_tuple(std::string_view method, AnyOf any_of, bool others, milliseconds time) {
    Answer answer = ask(method, any_of, others, time);
    if (!answer) return answer.error();
    const msgpack::object* tuple = Fields(answer->get()).find("tuple");
    if (!tuple) return make_error(std::errc::bad_message, "the node's answer is malformed; see that it is of this version");
    return unpack_found(*tuple);
  }

  // Other hosts, as the node knows them.
  Result<uint64_t> other_hosts() {
    Answer answer = ask("space.count", {}, true, {});  // without templates: nobody is asked to count
    if (!answer) return answer.error();
    return Fields(answer->get()).get_or<uint64_t>("hosts", 0);
  }

  void forget_silent() {
    std::lock_guard guard(lock_);
    silent_.clear();
  }

  std::shared_ptr<Host> host_;
  mutable std::mutex lock_;
  std::vector<std::string> silent_;  // under lock_
};

}  // namespace

std::shared_ptr<Backend> net_backend(std::shared_ptr<Host> host) { return std::make_shared<NetBackend>(std::move(host)); }

}  // namespace godwit
