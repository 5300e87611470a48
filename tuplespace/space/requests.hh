// Asynchronous requests of a space: two threads, one for all ins and one for all rds, wait for any of them at once.
#pragma once
#include <unistd.h>

#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

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
  bool is_ready() const;
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

class Requests {
 public:
  static std::shared_ptr<Requests> make(std::shared_ptr<Backend> backend);

  std::shared_ptr<Request> begin(Template wanted, bool takes);
  void withdraw(Request& request);

 private:
  // Those of one verb, oldest first, and the thread that waits for them.
  class Line {
   public:
    Line(std::shared_ptr<Backend> backend, bool takes) : backend_(std::move(backend)), takes_(takes) {}
    ~Line();
    void add(std::shared_ptr<Request> request);
    void look_again();

   private:
    using Open = std::vector<std::shared_ptr<Request>>;
    void run(const std::stop_token& stop);
    void serve(const Open& open, std::stop_token changed);

    std::shared_ptr<Backend> backend_;
    const bool takes_;
    std::mutex lock_;
    std::condition_variable_any added_;
    std::list<std::shared_ptr<Request>> open_;  // under lock_
    std::stop_source changed_;                  // under lock_: ends a wait whose list of requests is old
    std::jthread thread_;                       // from the first request on
  };
  explicit Requests(std::shared_ptr<Backend> backend) : lines_{Line(backend, true), Line(backend, false)} {}
  Line& line_of(bool takes) { return lines_[takes ? 0 : 1]; }

  const int pid_ = getpid();
  Line lines_[2];
};

}  // namespace godwit
