#include "tuplespace/node/peers.hh"

#include <algorithm>

namespace godwit {
namespace {
using Clock = Loop::Clock;
constexpr auto kFirstRetry = std::chrono::milliseconds(500);
constexpr auto kLastRetry = std::chrono::seconds(2);
}  // namespace

// One node's DEALER and the calls that wait for its answers.
struct Peers::Channel {
  struct Call {
    std::string method;
    Packed params;
    AnswerCallback callback;
    Loop::TimerId expiry = 0;
    Clock::time_point begun, sent;
    Clock::duration patience = kFirstRetry;
    Clock::duration silence = kAnySilence;
  };

  Channel(Peers& peers, std::string name, bool name_is_address)
      : peers(peers), name(std::move(name)), name_is_address(name_is_address) {}
  ~Channel() {
    peers.loop_.cancel(tick);
    for (auto& [sequence, call] : calls) peers.loop_.cancel(call.expiry);
  }

  void begin(std::string_view method, Packed params, AnswerCallback callback, Deadline deadline,
             Clock::duration silence) {
    uint64_t sequence = next_sequence++;
    Call& call = calls[sequence];
    call.method = method;
    call.params = std::move(params);
    call.callback = std::move(callback);
    call.begun = Clock::now();
    call.silence = silence;
    call.expiry = peers.loop_.at(deadline, [this, sequence] { expire(sequence, std::errc::timed_out); });
    if (!dealer) connect();
    send(sequence, call);
    if (!tick) tick = peers.loop_.after(kFirstRetry, [this] { on_tick(); });
  }

  void connect() {
    watcher.reset();
    dealer.reset();
    auto address = name_is_address ? std::optional(name) : peers.find_address_(name);
    if (!address) return;
    auto fresh = peers.transport_.dealer(Transport::Security::kCurve);
    if (!fresh) return;
    dealer = std::make_unique<Socket>(std::move(*fresh));
    if (!dealer->connect("tcp://" + *address)) return dealer.reset();
    watcher = std::make_unique<SocketWatcher>(peers.loop_, *dealer, [this](Frames f) { on_message(f); });
  }

  void send(uint64_t sequence, Call& call) {
    call.sent = Clock::now();
    if (!dealer) return;
    uint64_t floor = calls.begin()->first;
    dealer->send({std::string(kProtocol), pack_request({session, sequence}, floor, call.method, call.params)});
  }

  void on_message(const Frames& frames) {
    heard = Clock::now();
    auto response = parse_response(frames);
    if (!response || response->working || response->id.session != session) return;
    finish(response->id.sequence, std::move(response->answer));
  }

  void finish(uint64_t sequence, Answer answer) {
    auto found = calls.find(sequence);
    if (found == calls.end()) return;
    auto callback = std::move(found->second.callback);
    peers.loop_.cancel(found->second.expiry);
    calls.erase(found);
    callback(std::move(answer));
  }

  void expire(uint64_t sequence, std::errc code) {
    std::string who = (name_is_address ? "the node at " : "host ") + name;
    bool works = heard >= calls.at(sequence).begun;
    finish(sequence, make_error(code, works ? who + " has not done it in time; see its node.log"
                                            : who + " does not answer; see that its node runs and has this "
                                                    "community's key"));
  }

  // A callback may begin calls, and end others.
  void expire_silent() {
    std::vector<uint64_t> over;
    for (auto& [sequence, call] : calls)
      if (Clock::now() - std::max(call.begun, heard) > call.silence) over.push_back(sequence);
    for (uint64_t sequence : over)
      if (calls.contains(sequence)) expire(sequence, std::errc::host_unreachable);
  }

  // Silence since a call was sent means that its DEALER may be dead: then all go out on a fresh one.
  void on_tick() {
    expire_silent();
    tick = 0;
    auto now = Clock::now();
    std::vector<uint64_t> due;
    bool silent = false;
    for (auto& [sequence, call] : calls) {
      if (now - call.sent < call.patience) continue;
      silent |= heard < call.sent;
      call.patience = std::min<Clock::duration>(call.patience * 2, kLastRetry);
      due.push_back(sequence);
    }
    if (silent) connect();
    for (auto& [sequence, call] : calls)
      if (silent || std::find(due.begin(), due.end(), sequence) != due.end()) send(sequence, call);
    if (!calls.empty()) tick = peers.loop_.after(kFirstRetry, [this] { on_tick(); });
  }

  Peers& peers;
  std::string name;
  bool name_is_address;
  uint64_t session = random_u64();
  uint64_t next_sequence = 1;
  std::map<uint64_t, Call> calls;  // by sequence
  Clock::time_point heard;
  Loop::TimerId tick = 0;
  std::unique_ptr<Socket> dealer;
  std::unique_ptr<SocketWatcher> watcher;
};

Peers::Peers(Loop& loop, Transport& transport, RpcServer& local, FindAddress find_address)
    : loop_(loop), transport_(transport), local_(local), find_address_(std::move(find_address)) {}

Peers::~Peers() { *alive_ = false; }

Peers::Channel& Peers::channel(const std::string& name, bool is_address) {
  auto& slot = channels_[is_address ? "@" + name : name];
  if (!slot) slot = std::make_unique<Channel>(*this, name, is_address);
  return *slot;
}

void Peers::call(const std::string& host, std::string_view method, Packed params,
                 AnswerCallback callback, Deadline deadline, Clock::duration silence) {
  if (host == self_) return call_self(method, std::move(params), std::move(callback), deadline);
  if (!find_address_(host)) {
    Error error = make_error(std::errc::no_such_device_or_address, "no host named " + host + "; see godwit hosts");
    return loop_.post([callback = std::move(callback), error] { callback(error); });
  }
  channel(host, false).begin(method, std::move(params), std::move(callback), deadline, silence);
}

void Peers::call_address(const std::string& address, std::string_view method, Packed params,
                         AnswerCallback callback, Deadline deadline) {
  channel(address, true).begin(method, std::move(params), std::move(callback), deadline, kAnySilence);
}

// As over the network: later, and with the deadline.
void Peers::call_self(std::string_view method, Packed params, AnswerCallback callback, Deadline deadline) {
  struct Pending {
    AnswerCallback callback;
    Loop::TimerId expiry;
  };
  auto pending = std::make_shared<Pending>(Pending{std::move(callback), 0});
  auto finish = [this, alive = alive_, pending](Answer answer) {
    if (!*alive || !pending->callback) return;
    loop_.cancel(pending->expiry);
    std::exchange(pending->callback, nullptr)(std::move(answer));
  };
  pending->expiry = loop_.at(deadline, [finish] {
    finish(make_error(std::errc::timed_out, "this node did not finish in time; see its node.log"));
  });
  loop_.post([this, alive = alive_, method = std::string(method), params = std::move(params), finish] {
    if (*alive) local_.call_local(method, params, finish);
  });
}

}  // namespace godwit
