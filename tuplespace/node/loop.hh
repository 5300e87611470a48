// The node's event loop: descriptors, timers, and work handed in by other threads.
//
// Everything runs in the thread that calls run(), except post(), which any thread may call. What must
// stay true: a callback may add and remove anything, itself too; a removed one is never called again.
// `prepare` callbacks exist for sources that epoll cannot judge alone (ZeroMQ's edge-like descriptor):
// each runs before every wait; one that answers true has all asked again first.
#pragma once
#include <sys/epoll.h>

#include <array>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/result.hh"

namespace godwit {

class Loop {
 public:
  using Clock = std::chrono::steady_clock;
  using FdCallback = std::function<void(uint32_t events)>;  // EPOLLIN and so on
  using TimerId = uint64_t;                                 // never 0

  Loop();
  ~Loop();
  Loop(const Loop&) = delete;

  /// Borrows `fd`; call remove_fd before it is closed. One registration a descriptor.
  Result<void> add_fd(int fd, uint32_t events, FdCallback callback);
  Result<void> set_events(int fd, uint32_t events);
  void remove_fd(int fd);

  TimerId after(Clock::duration delay, std::function<void()> callback);
  TimerId at(Clock::time_point when, std::function<void()> callback);
  void cancel(TimerId id);  // of a timer that has run: nothing

  /// Runs `work` in the loop's thread, soon. Any thread; also before run() and never after ~Loop.
  void post(std::function<void()> work);

  uint64_t add_prepare(std::function<bool()> callback);
  void remove_prepare(uint64_t id);

  /// Memory that others write. `marked`: they have; looked at while the loop spins (shared/spin.hh). `before_sleep`: from
  /// here on they have to wake us; answers whether they have written just then. One at a time; {} ends it.
  struct Memory {
    std::function<bool()> marked, before_sleep;
  };
  void watch_memory(Memory memory) { memory_ = std::move(memory); }

  void run();   // until stop()
  void stop();  // loop's thread only; from elsewhere: post
  /// One round, waiting at most `limit`; for tests.
  void run_once(Clock::duration limit);

 private:
  struct Registration {
    int fd;
    FdCallback callback;
  };
  struct Timer {
    TimerId id;
    std::function<void()> callback;
  };
  int wait(Clock::duration limit, bool pending);
  bool run_prepares();
  void run_timers();
  void run_posted();
  int wait_milliseconds(Clock::duration limit, bool pending) const;
  void dispatch(int count);

  UniqueFd epoll_;
  UniqueFd wake_;
  bool stopped_ = false;
  uint64_t next_id_ = 1;
  std::unordered_map<int, uint64_t> token_of_;                                   // by descriptor
  std::unordered_map<uint64_t, std::shared_ptr<Registration>> registrations_;    // by token
  std::multimap<Clock::time_point, Timer> timers_;
  std::unordered_map<TimerId, Clock::time_point> timer_times_;
  std::map<uint64_t, std::shared_ptr<std::function<bool()>>> prepares_;
  Memory memory_;
  int32_t spin_credit_ = 0;
  std::array<epoll_event, 128> events_;
  std::mutex posted_lock_;
  std::vector<std::function<void()>> posted_;  // under posted_lock_
};

}  // namespace godwit
