#include "tuplespace/node/loop.hh"

#include <sys/eventfd.h>
#include <unistd.h>

#include "tuplespace/shared/spin.hh"

namespace godwit {

Loop::Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  GODWIT_CHECK(epoll_.valid() && wake_.valid());
  GODWIT_CHECK(add_fd(wake_.get(), EPOLLIN, [this](uint32_t) { run_posted(); }));
}

Loop::~Loop() = default;

Result<void> Loop::add_fd(int fd, uint32_t events, FdCallback callback) {
  uint64_t token = next_id_++;
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return errno_error("watching a descriptor");
  token_of_[fd] = token;
  registrations_[token] = std::make_shared<Registration>(Registration{fd, std::move(callback)});
  return {};
}

Result<void> Loop::set_events(int fd, uint32_t events) {
  auto token = token_of_.find(fd);
  GODWIT_CHECK(token != token_of_.end());
  epoll_event event{};
  event.events = events;
  event.data.u64 = token->second;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) return errno_error("watching a descriptor");
  return {};
}

void Loop::remove_fd(int fd) {
  auto token = token_of_.find(fd);
  if (token == token_of_.end()) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  registrations_.erase(token->second);
  token_of_.erase(token);
}

Loop::TimerId Loop::after(Clock::duration delay, std::function<void()> callback) {
  return at(Clock::now() + delay, std::move(callback));
}

Loop::TimerId Loop::at(Clock::time_point when, std::function<void()> callback) {
  TimerId id = next_id_++;
  timers_.emplace(when, Timer{id, std::move(callback)});
  timer_times_.emplace(id, when);
  return id;
}

void Loop::cancel(TimerId id) {
  auto when = timer_times_.find(id);
  if (when == timer_times_.end()) return;
  auto [first, last] = timers_.equal_range(when->second);
  for (auto timer = first; timer != last; ++timer) {
    if (timer->second.id != id) continue;
    timers_.erase(timer);
    break;
  }
  timer_times_.erase(when);
}

void Loop::post(std::function<void()> work) {
  {
    std::lock_guard guard(posted_lock_);
    posted_.push_back(std::move(work));
  }
  uint64_t one = 1;
  [[maybe_unused]] auto written = write(wake_.get(), &one, sizeof one);  // full: it is awake already
}

uint64_t Loop::add_prepare(std::function<bool()> callback) {
  uint64_t id = next_id_++;
  prepares_.emplace(id, std::make_shared<std::function<bool()>>(std::move(callback)));
  return id;
}

void Loop::remove_prepare(uint64_t id) { prepares_.erase(id); }

void Loop::stop() { stopped_ = true; }

void Loop::run() {
  stopped_ = false;
  while (!stopped_) run_once(std::chrono::hours(1));
}

void Loop::run_once(Clock::duration limit) {
  bool pending = run_prepares();
  if (stopped_) return;
  dispatch(wait(limit, pending));
  run_timers();
}

// returns how many of events_ there are.
int Loop::wait(Clock::duration limit, bool pending) {
  auto poll = [&](int milliseconds) {
    return epoll_wait(epoll_.get(), events_.data(), static_cast<int>(events_.size()), milliseconds);
  };
  if (pending || !memory_.marked) return poll(wait_milliseconds(limit, pending));
  int count = 0;
  if (shared::spin<1>(spin_credit_, [&] { return memory_.marked() || (count = poll(0)) > 0; })) return count;
  if (memory_.before_sleep()) return poll(0);
  uint64_t begin = shared::monotonic_ns();
  count = poll(wait_milliseconds(limit, false));
  shared::learn(spin_credit_, shared::monotonic_ns() - begin);
  return count;
}

// By id, because a callback may add or remove others.
bool Loop::run_prepares() {
  bool pending = false;
  for (auto it = prepares_.begin(); it != prepares_.end();) {
    uint64_t id = it->first;
    auto callback = it->second;  // keeps it alive while it removes itself
    pending |= (*callback)();
    it = prepares_.upper_bound(id);
  }
  return pending;
}

int Loop::wait_milliseconds(Clock::duration limit, bool pending) const {
  if (pending) return 0;
  if (!timers_.empty()) limit = std::min(limit, timers_.begin()->first - Clock::now());
  auto rounded = std::chrono::ceil<std::chrono::milliseconds>(limit).count();
  return static_cast<int>(std::max<int64_t>(rounded, 0));
}

void Loop::dispatch(int count) {
  for (int i = 0; i < count; ++i) {
    auto found = registrations_.find(events_[static_cast<size_t>(i)].data.u64);
    if (found == registrations_.end()) continue;  // removed by an earlier callback of this round
    auto keep = found->second;
    keep->callback(events_[static_cast<size_t>(i)].events);
  }
}

void Loop::run_timers() {
  auto now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    Timer timer = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    timer_times_.erase(timer.id);
    timer.callback();
  }
}

void Loop::run_posted() {
  uint64_t count = 0;
  [[maybe_unused]] auto got = read(wake_.get(), &count, sizeof count);
  std::vector<std::function<void()>> work;
  {
    std::lock_guard guard(posted_lock_);
    work.swap(posted_);
  }
  for (auto& item : work) item();
}

}  // namespace godwit
