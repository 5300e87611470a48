// A pod that leaves this host.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "migrate/departure.hh"
#include "migrate/move_channel.hh"
#include "migrate/pieces.hh"
#include "tuplespace/node/node.hh"
#include "tuplespace/streams/service.hh"

namespace godwit::migrate {

struct MoveReport {
  std::string pod, from, to;
  uint64_t epoch = 0;
  double blackout_ms = 0;  // from the first thread's stop to the word that the program goes on there
  double total_ms = 0;
  uint64_t bytes = 0;      // of memory sent
  Unread unread;           // in the pod's streams at the freeze
};

class Outgoing {
 public:
  /// In the loop's thread. on_end: once, there too; may destroy this.
  static std::unique_ptr<Outgoing> start(Node& node, const PodEntry& pod, std::string target, bool dry_run,
                                         std::function<void(Result<MoveReport>)> on_end);
  ~Outgoing();

  /// The target's node has started anew and remembers nothing: what was begun there is begun again. Loop's thread.
  void target_restarted() {
    if (channel_) channel_->cut();
  }
  const std::string& target() const { return target_; }

 private:
  Outgoing(Node& node, const PodEntry& pod, std::string target, bool dry_run,
           std::function<void(Result<MoveReport>)> on_end);
  void run();
  Result<MoveReport> move();
  void show(std::string state);
  Error explain(const Error& error, bool ended);
  uint64_t await_control();
  Result<void> refresh_entry();
  Result<void> attempt(const RunningPod& running, uint64_t control);
  Result<std::unique_ptr<Departure>> open_when_single(int pid, uint64_t control);
  Result<std::unique_ptr<MoveChannel>> prepare_target(const std::string& spec);
  Result<void> send_log(bool made);
  Result<void> hand_over(Departure& departure);
  Result<void> commit();
  Result<bool> read_outcome();
  Result<void> wait_for(const std::string& word, Deadline deadline);
  void finish(Departure& departure, int pid);
  Answer call_target(std::string_view method, Packed params, Loop::Clock::duration patience);

  Node& node_;
  StreamService& service_;
  PodEntry pod_;
  std::string target_;
  bool dry_run_;
  std::function<void(Result<MoveReport>)> on_end_;
  std::unique_ptr<MoveChannel> channel_;  // set in the loop's thread
  MoveReport report_;
  uint64_t log_sent_ = 0;  // bytes of the pod's log that the target has
  Clock::time_point began_, frozen_;
  std::thread thread_;
};

/// What the pod of a member has registered as its Control; 0 if none.
uint64_t control_of(shared::Segment segment, uint64_t pod);

/// The commit's consequences on the source, while the stopped copy still exists (it has the placeholders): peers that
/// stay get the node for the other end, listeners become proxies. returns the runs to free once the copy is dead.
std::vector<shared::Offset> give_up_ends(StreamService& service, uint64_t pod, int pid, const ControlView& control);
/// What a pod that is gone from this host still has in the segment, when nobody remembers its pieces.
void sweep_departed(StreamService& service, uint64_t pod);
/// Makes the kernel forget the copy's alive words, so that its death marks nothing.
void clear_alive_words(shared::Segment segment, uint64_t pod);

}  // namespace godwit::migrate
