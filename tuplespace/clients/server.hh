// Serves the clients of a node: one thread, which does what they ask in the segment itself.
//
// What must stay true: nothing in the thread waits but for a message, an answer of the store or the time; what waits for a tuple
// is a request of the store. A request's effect, and the note in the ledger that it was done, are one transaction of the store;
// its answer is sent after that. What clients send is not trusted: each is held to the limits of its key.
#pragma once
#include <atomic>
#include <functional>
#include <thread>
#include <unordered_map>

#include "tuplespace/clients/audit.hh"
#include "tuplespace/clients/endpoint.hh"
#include "tuplespace/clients/ledger.hh"
#include "tuplespace/clients/session.hh"
#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/streams/mediator.hh"
#include "tuplespace/streams/ring_waiter.hh"

namespace godwit::clients {

// What operations.cc and net.cc say alike.
Error no_memory_left();
Error not_of_net();
bool is_of_net(const Request& request);
/// What a record of the ledger has.
std::vector<std::pair<uint64_t, Body>> read_answers(std::string_view packed);

class Server {
 public:
  /// The thread's. errors: of the segment.
  static Result<std::unique_ptr<Server>> make(const Home& home, const shared::Segment& segment);
  ~Server();
  Server(const Server&) = delete;

  /// Binds. returns A:P.
  Result<std::string> listen(const CommunityKey& key, const std::string& address);
  /// Until stop(), which any thread may call.
  void run();
  void stop();
  /// More of the log of durable spaces is on disk. Any thread.
  void on_written();

 private:
  // What became of a request at once; and of some behind it, that came to the same.
  struct Outcome {
    uint64_t number;
    Body answer;
    bool kept = true;    // in the ledger: for one that changes something
    bool taken = false;  // as a tuple there
    uint64_t more = 0;

    uint64_t last() const { return number + more; }
    bool goes_on_with(const Outcome& next) const {
      return next.number == last() + 1 && next.kept == kept && !taken && !next.taken && next.answer == answer;
    }
  };
  using Step = Result<std::optional<Body>>;  // nullopt: it waits

  Server(const Home& home, const shared::Segment& segment, Ledger ledger, store::Desk& desk, store::Requests& mine);

  // server.cc: the thread, sessions
  Milliseconds time_to_wait() const;
  void receive();
  void on_message(Endpoint::Incoming& incoming);
  void say_over(const std::string& route, std::string_view session, const Error& error);
  Session* find_session(const Message& message, const Endpoint::Incoming& incoming);
  static bool may_go_on(Session& session);
  void handle_throttled();
  void tick();
  Session& begin_session(const std::string& id, const std::string& key);
  Result<void> recover();
  void recover(const std::string& id, Left& left);
  void end(Session& session, const Error& why);
  void end_by_wish(Session& session);
  void remember_over(const std::string& session, const std::string& key);
  void clear(Session& session);
  Result<bool> put_back(std::string_view session, uint64_t number);
  void end_silent();
  void refresh_clients();
  void send(Session& session, bool at_least_one);
  void send_unsent();
  void send_written();

  // requests.cc: each request once
  void handle(Session& session, Message& message);
  void confirm(Session& session, uint64_t floor);
  Result<void> forget(Session& session, std::span<const Run> runs);
  bool is_new(Session& session, uint64_t number, const Request& request);
  bool run_batch(Session& session, std::span<Request> requests, uint64_t first);
  void run_alone(Session& session, Request& request, uint64_t number);
  Result<void> put_record(store::Transaction& transaction, Session& session, uint64_t begun, std::span<const Outcome> outcomes);
  Result<void> commit(Session& session, uint64_t begun, std::span<Outcome> outcomes, bool always = false);
  void recorded(Session& session, uint64_t begun, std::span<Outcome> outcomes, bool in_ledger);
  void settle(Session& session, uint64_t begun, Outcome outcome);

  // waiting.cc: requests that wait
  std::optional<Error> has_no_waiter_left(const Session& session) const;
  void wait(Session& session, uint64_t number, std::unique_ptr<Waiting> waiting, std::optional<Milliseconds> time);
  bool wait_for_room(Session& session, Request& request, uint64_t number, const Error& no);
  void stop_waiting(Session& session, uint64_t number);
  void look_at(uint32_t request);
  void look_at_all();
  void look_at(Session& session, uint64_t number);
  bool put_waiting(Session& session, uint64_t number);
  void look_at_rooms();
  void look_at_watches();
  bool look_at_watch(Session& session, uint64_t number);
  static Step seen(Session::Watch& watch);
  void run_timers();
  Step answer_of(Session& session, Waiting& waiting, Outcome& outcome);

  // operations.cc: what requests do
  Result<store::Store> open(std::string_view name);
  std::optional<Error> refused(const Session& session, std::string_view space, Rights rights);
  bool has_memory_for(const Session& session, uint64_t bytes) const;
  Step operate(Session& session, store::Transaction& transaction, Request& request, Outcome& outcome, uint64_t within = 0);
  Step put(store::Store& store, store::Transaction& transaction, Request& request);
  Step take(Session& session, store::Store& store, store::Transaction& transaction, Request& request, Outcome& outcome, uint64_t within);
  Step look(Session& session, store::Store& store, store::Transaction& transaction, Request& request, const Outcome& outcome, uint64_t within);
  Step begin_request(Session& session, const store::Store& store, Request& request, uint64_t number, uint64_t within);
  Step operate_alone(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step put_if(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step lease(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step with_lease(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step all(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step collect(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step watch(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step next(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step unwatch(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step cancel(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step got(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step begin(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step within(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step commit_own(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step roll_back(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step create_or_drop(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step spaces(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Result<void> note_doubt(Session& session, uint64_t number);
  Body leased(Session& session, const store::Store& store, const store::Delivery& delivery, Milliseconds time, const Tuple& tuple);

  // net.cc: the space of socket traffic
  Step of_net(Session& session, Request& request, std::vector<Outcome>& outcomes);
  Step try_net(Session& session, uint64_t number, Op op, std::span<const Template> wanted, std::span<const TupleView> tuples);
  Step copy_net(Session& session, Request& request);
  void look_at_net();

  const Home& home_;
  shared::Segment segment_;
  Ledger ledger_;
  store::Desk& desk_;
  store::Requests& mine_;
  Registry registry_;
  Audit audit_;
  std::unique_ptr<Endpoint> endpoint_;
  uint64_t pending_ = 0;  // bytes of answers of the batch that is being done
  uint64_t incarnation_;
  uint64_t last_id_;  // of what sessions have: no two are the same, also over restarts
  std::map<std::string, std::unique_ptr<Session>, std::less<>> sessions_;
  std::map<std::string, std::shared_ptr<Usage>, std::less<>> usages_;  // by key
  std::map<std::string, Clock::time_point, std::less<>> over_;         // sessions, until when they are remembered
  std::list<Session*> by_hearing_;                                     // longest silent first
  std::map<std::string, Session*, std::less<>> routes_;                // whose last message came from there
  std::set<Session*> unsent_;                                          // have answers to be sent
  std::set<Session*> unwritten_;                                       // those whose effects are on their way to disk
  std::set<Session*> throttled_;                                       // have messages that wait for their key's rate
  std::unordered_map<uint32_t, std::pair<Session*, uint64_t>> waits_;  // by the store's request
  std::list<std::pair<Session*, uint64_t>> rooms_;                     // outs that wait for room, longest first
  Clock::time_point looked_for_room_;
  std::set<std::pair<Session*, uint64_t>> nexts_;                      // requests that wait for what a watch sees
  std::set<std::pair<Session*, uint64_t>> nets_;                       // requests of net that wait
  Clock::time_point looked_at_net_;
  std::atomic<bool> net_rung_ = false;
  Timers timers_;
  std::map<std::string, store::Store, std::less<>> spaces_;
  UniqueFd bell_;  // eventfd: something was answered, or the thread shall stop
  StreamSource net_;
  StreamMediator mediator_;
  RingWaiter net_waiter_;
  std::atomic<bool> stop_ = false, awaits_disk_ = false;
  std::jthread ringer_;
};

}  // namespace godwit::clients
