// Asynchronous requests of a space, which a thread of the library looks after.
#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>

#include "tuplespace/space/backend.hh"

namespace godwit {

class Request {
 public:
  Request(Template wanted, bool takes) : wanted(std::move(wanted)), takes(takes) {}

  const Template wanted;
  const bool takes;

  /// False: nobody wants it any more.
  bool give(Tuple tuple);
  void fail(Error error);
  /// False: it was served before.
  bool withdraw();
  bool is_open() const;
  /// The tuple, or nullopt when the wait is over. Throws the request's failure.
  std::optional<Tuple> get(const Wait& wait);

 private:
  enum class State { kOpen, kGiven, kFailed, kWithdrawn, kGot };
  mutable std::mutex lock_;
  mutable std::condition_variable_any changed_;
  State state_ = State::kOpen;
  Tuple tuple_;
  Error error_;
};

/// Serves requests. Its thread begins with the first and ends with this. Any thread.
class Server {
 public:
  virtual ~Server() = default;
  virtual void add(std::shared_ptr<Request> request) = 0;
  /// One that was added is no longer open. When this returns, it takes nothing.
  virtual void withdrawn(Request& request) = 0;
};
/// Of a store: every request has its own place in line.
std::unique_ptr<Server> store_server(std::shared_ptr<Backend> backend);
/// Of any other backend: one thread for all ins and one for all rds, each of which waits for any of them at once.
std::unique_ptr<Server> waiting_server(std::shared_ptr<Backend> backend);

/// The requests of a space, made by one process: a child of fork has none of its parent's threads, whose locks may be held for
/// ever, and leaves all that as it is.
class Requests {
 public:
  explicit Requests(std::shared_ptr<Backend> backend);
  ~Requests();

  std::shared_ptr<Request> begin(Template wanted, bool takes);
  void withdraw(Request& request);

 private:
  const int pid_;
  std::unique_ptr<Server> server_;
};

}  // namespace godwit
