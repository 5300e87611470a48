// The connection of this process to a host by a client's key: the session (docs/protocol.md, "The protocol of clients") that
// all its threads ask in.
//
// Somebody attends to the socket while an answer is to come: one of the threads that wait for one, and so gets it without
// another's help; else the connection's own thread. What is asked while a message is on its way goes into the next one.
//
// A session that ends fails what was under way with connection_reset, and the next request begins another. What the node keeps for
// it in memory only (leases, watches, transactions) is of a *life*, which also the node's restart ends: 1 and up, in this process.
//
// fork  a child has connections of its own, and leaves its parent's as they are. They last as long as the process, whose
//       normal end ends their sessions.
#pragma once
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/remote/dealer.hh"
#include "tuplespace/wait.hh"
#include "tuplespace/wire.hh"

namespace godwit::remote {

/// A part of a message of the node. Keeps the message.
struct Object {
  std::shared_ptr<const msgpack::object_handle> message;
  const msgpack::object* object = nullptr;
  uint64_t life = 0;  // in which it came
};

/// Is told what a request has come to, once: by any thread, under the connection's lock.
class Asked {
 public:
  /// What is to be done with a result that is not nil: it is told at once; confirmed first, so that the tuple that was taken is
  /// this process's for good; or told, and confirmed or put back later.
  enum class Then { kTell, kConfirm, kDecideLater };

  virtual ~Asked() = default;
  virtual Then look(const msgpack::object&) { return Then::kTell; }
  virtual void tell(const Object& result) = 0;
  virtual void fail(const Error& error) = 0;
};

/// Of a request, in a session: 1 and up, in this process.
struct Number {
  uint64_t session = 0, number = 0;
};

struct Answered {
  Object result;
  Number number;
};

class Connection {
 public:
  /// Of a key file by its absolute path. Connects with the first request. Lasts as long as the process.
  static Result<Connection*> of(const std::string& key_file);
  /// Of which process connections are: another number in a child of fork.
  static uint64_t process();

  /// Asks, and waits for the answer. A stop cancels the request.
  /// life     that the request belongs to; 0: any.
  /// errors   the node's; connection_reset: the session ended meanwhile (or, life not being 0, that before);
  ///          host_unreachable, connection_refused: it could not begin.
  Result<Answered> ask(std::string_view request, const std::stop_token& stop = {}, uint64_t life = 0);
  /// The same, of a request that takes: unless its result is nil, confirm() or put_back() follows.
  Result<Answered> take(std::string_view request, const std::stop_token& stop);
  /// Returns when that take is final: the tuple is this process's, whatever becomes of the session.
  Result<void> confirm(Number take);
  /// Takes it back, also a request that waits. When this returns the tuple is back at its place.
  /// returns  false: it was done before, and is confirmed.
  Result<bool> put_back(Number take);

  /// Asks, and does not wait but for a window: there are so many bytes under way that were begun with one.
  Number begin(std::string_view request, std::shared_ptr<Asked> asked, uint64_t life = 0, bool windowed = false);
  /// Whether what belongs to that life may still be there.
  bool is_alive(uint64_t life);
  /// Waits until a condition holds that changes with answers; it is looked at under the lock.
  bool wait_until(const std::function<bool()>& holds, const Wait& wait);
  /// Whether such a condition holds.
  bool look(const std::function<bool()>& holds);

 private:
  using Clock = std::chrono::steady_clock;
  using Guard = std::unique_lock<std::mutex>;
  using Condition = std::function<bool()>;
  // What a request belongs to; 0: to whatever there is.
  struct Owner {
    uint64_t session = 0, life = 0;
  };
  // How it is asked.
  struct Manner {
    bool waited_for = false, windowed = false;  // by its caller; counts in window_
  };
  struct Open {
    std::shared_ptr<Asked> asked;  // null: it has its answer
    Manner manner;
    size_t length;  // of its bytes
  };
  // Requests that go in one message.
  struct Batch {
    std::vector<Open> requests;
    size_t answered = 0;  // of the first ones
    std::string bytes;
  };
  // Waits while another attends.
  struct Follower {
    const Condition& over;
    std::condition_variable changed;
    bool leads = false;
  };
  struct Got;
  class Call;

  explicit Connection(ClientKey key);
  Error unknown_key() const;
  static void end_all();
  void run();

  // Under lock_, all of these.
  Result<Answered> ask(std::string_view request, const std::stop_token& stop, Owner owner, bool takes);
  void cancel(Number request);
  std::optional<Error> begin_session();
  Result<Number> append(std::string_view request, std::shared_ptr<Asked> asked, Owner owner, Manner manner);
  void wait(Guard& guard, const Condition& over, Deadline until = kForever);
  void attend(Guard& guard, const Condition& over, Deadline until);
  void hand_over();
  void call_keeper();
  void work();
  bool flush();
  bool waits_for_more() const;
  void add_got();
  void append_got(const std::vector<uint64_t>& numbers, std::shared_ptr<Asked> asked);
  void send(uint64_t first, size_t number, std::string_view requests);
  bool receive();
  void hear(std::string_view message);
  void decided(Number take);
  Open close(uint64_t number);
  bool hear_answer(const std::shared_ptr<const msgpack::object_handle>& message, const msgpack::object& answer);
  void wake();
  void nudge();
  void tick(Clock::time_point now);
  bool look_at_events();
  void send_again();
  void send_again(uint64_t first, const Batch& batch);
  void end_session(const Error& error);
  uint64_t floor() const;
  uint64_t first_unsent() const { return unsent_ ? next_ - unsent_->requests.size() : next_; }

  const ClientKey key_;
  const UniqueFd nudge_;  // wakes who attends
  std::mutex lock_;
  // All that follows is under it.
  std::unique_ptr<Dealer> dealer_;
  std::string id_;             // SESSION
  uint64_t session_ = 0, life_ = 0;  // how many there have been
  uint64_t incarnation_ = 0;         // of the node; 0: not known yet
  bool is_over_ = true;
  bool heard_ = false;         // anything, in this session
  uint64_t next_ = 1;          // the number of the next request
  std::map<uint64_t, Batch> open_;      // those with requests that have no answer yet, by the first one's number
  Batch* unsent_ = nullptr;             // the last of them; null: all are sent
  std::set<uint64_t> undecided_;        // takes that are neither confirmed nor put back
  std::vector<uint64_t> answered_;      // above floor(), and not confirmed
  std::vector<std::pair<std::shared_ptr<Asked>, Object>> taken_;  // to be told when they are confirmed
  size_t on_their_way_ = 0;             // messages that nothing was heard after
  size_t window_ = 0;                   // bytes
  size_t unattended_ = 0;               // requests without an answer, nobody waits for
  Clock::time_point connected_, last_sent_, next_tick_;
  std::optional<Clock::time_point> silent_since_, waits_since_;  // a message went off: ever since it was quiet; and since the last attempt
  Clock::duration pause_;
  std::list<Follower*> followers_;
  std::condition_variable keeper_;
  bool keeper_runs_ = false, keeper_called_ = false;
  const Condition* attendant_ = nullptr;  // what who attends waits for
  std::thread::id attendant_thread_;
};

}  // namespace godwit::remote
