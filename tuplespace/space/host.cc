#include "tuplespace/space/host.hh"

#include <unistd.h>

#include <map>

#include "tuplespace/store/durability.hh"
#include "tuplespace/store/sleep.hh"
#include "tuplespace/streams/host_segment.hh"

namespace godwit {

namespace {

constexpr std::chrono::milliseconds kTick{20};  // after which is looked whether the node has given up

// The segment, once the node has brought into it what is on disk.
Result<shared::Segment> whole_segment(const Home& home) {
  for (;;) {
    if (auto running = ensure_node(home); !running) return running.error();
    auto segment = open_host_segment(home);
    if (!segment) return segment;
    shared::Header& header = segment->header();
    for (uint32_t bell; bell = header.log_bell.load(), !store::has_log(header) && home.running_node();)
      store::sleep_on(header.log_bell, bell, kForever, kTick);
    if (store::has_log(header)) return segment;
  }
}

}  // namespace

Result<std::shared_ptr<Host>> Host::of(const Home& home) {
  static auto& lock = *new std::mutex;
  static auto& hosts = *new std::map<std::string, std::shared_ptr<Host>>;
  std::lock_guard guard(lock);
  std::shared_ptr<Host>& host = hosts[home.path()];
  if (host) return host;
  auto own = Home::open_at(home.path());
  if (!own) return own.error();
  auto segment = whole_segment(*own);
  if (!segment) return segment.error();
  host.reset(new Host(std::move(*own), *segment));
  return host;
}

std::unique_ptr<NodeClient> Host::idle_client() {
  std::lock_guard guard(lock_);
  if (pid_ != getpid()) {
    for (auto& parents : idle_) (void)parents.release();  // a child of fork cannot end its parent's connections
    idle_.clear();
    pid_ = getpid();
  }
  if (idle_.empty()) return nullptr;
  auto client = std::move(idle_.back());
  idle_.pop_back();
  return client;
}

Answer Host::ask(std::string_view method, const Packed& params, Loop::Clock::duration patience) {
  auto client = idle_client();
  if (!client) {
    auto connected = NodeClient::connect(home_);
    if (!connected) return connected.error();
    client = std::make_unique<NodeClient>(std::move(*connected));
  }
  Answer answer = client->call(method, params, patience);
  if (!answer && answer.error().code == std::errc::timed_out) return answer;  // the next one sees that a node runs
  std::lock_guard guard(lock_);
  idle_.push_back(std::move(client));
  return answer;
}

}  // namespace godwit
