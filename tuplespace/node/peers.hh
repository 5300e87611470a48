// Calls to other nodes: a DEALER for each, retries, deadlines.
//
// What must stay true: every call's callback runs exactly once, in the loop's thread, never from inside
// call(). A call that hears nothing is sent again with the same id over a fresh DEALER, whose address is
// looked up anew, because the node may have come back elsewhere.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "tuplespace/node/rpc.hh"

namespace godwit {

using Deadline = Loop::Clock::time_point;
inline Deadline in_time(Loop::Clock::duration span) { return Loop::Clock::now() + span; }

/// A node that works on a request says so again and again, more often than this: one that says nothing is away.
inline constexpr auto kPeerSilence = std::chrono::seconds(5);
inline constexpr Loop::Clock::duration kAnySilence = Loop::Clock::duration::max();

class Peers {
 public:
  /// `find_address` answers the A:P of a host's node, or nullopt for an unknown host.
  using FindAddress = std::function<std::optional<std::string>(const std::string& host)>;
  Peers(Loop& loop, Transport& transport, RpcServer& local, FindAddress find_address);
  ~Peers();

  void set_self(std::string host_name) { self_ = std::move(host_name); }

  /// Errors: no_such_device_or_address (unknown host), timed_out, host_unreachable when nothing at all is heard of the
  /// node for `silence` (after both it may still happen), and the method's.
  void call(const std::string& host, std::string_view method, Packed params, AnswerCallback callback,
            Deadline deadline, Loop::Clock::duration silence = kAnySilence);
  /// To a node whose name is not known yet.
  void call_address(const std::string& address, std::string_view method, Packed params,
                    AnswerCallback callback, Deadline deadline);

 private:
  struct Channel;
  Channel& channel(const std::string& key, bool key_is_address);
  void call_self(std::string_view method, Packed params, AnswerCallback callback, Deadline deadline);

  Loop& loop_;
  Transport& transport_;
  RpcServer& local_;
  FindAddress find_address_;
  std::string self_;
  std::map<std::string, std::unique_ptr<Channel>> channels_;  // by host, or "@A:P"
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace godwit
