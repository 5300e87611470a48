// The node's service for the pods of its host: admits them, watches their supervisors, answers for them.
//
// What must stay true: a pod's end is told to the community once its supervisor has hung up, and only if the
// directory still says that this host runs it. A node that starts finds the pods of its predecessor by the
// control sockets in GODWIT_HOME/pods.
#pragma once
#include <map>
#include <memory>

#include "tuplespace/node/node.hh"
#include "tuplespace/streams/service.hh"
#include "wrapper/ferry.hh"
#include "wrapper/pod_spec.hh"

namespace godwit {

class PodService final : public PodController {
 public:
  explicit PodService(Node& node);
  ~PodService() override;

  /// A pod that arrived has a supervisor (start_supervisor): it is watched from now on.
  Result<void> watch(const std::string& name);
  /// The outer PID of the program; 0: not here.
  pid_t program(const std::string& name) const;
  std::string directory_of(const std::string& name) const;
  /// Where the log of a pod that is on its way to this host is kept until the pod is made.
  std::string arriving_log(uint64_t pod) const;

  // PodController
  void facts(std::function<void(std::vector<PodFacts>)> callback) override;
  void set_state(const std::string& pod, std::string state) override;
  void signal(const std::string& pod, int signo, std::function<void(Result<void>)> callback) override;
  void log(const std::string& pod, uint64_t offset, uint64_t limit, bool wait,
           std::function<void(Result<PodLog>)> callback) override;
  void connections(std::function<void(std::vector<ConnectionFacts>)> callback) override;

 private:
  struct Watched;
  Result<void> start();
  void take_up(const std::string& name);
  bool is_supervised(const std::string& name) const;
  void admit(const msgpack::object& params, Reply reply);
  void place(const PodEntry& entry, uint64_t starter, Reply reply);
  void started(uint64_t pod, const std::string& name);
  void starter_gone(uint64_t starter);
  void on_channel(const std::string& name);
  bool read_channel(Watched& pod);
  Watched* find(uint64_t pod);
  void ask(const msgpack::object& params, Reply reply);
  void left(const msgpack::object& params, Reply reply);
  void keep_log(const msgpack::object& params, Reply reply);
  void hung_up(const std::string& name);
  void ended(uint64_t pod, const std::function<void()>& told = [] {});
  PodFacts facts_of(const Watched& pod) const;

  Node& node_;
  Ferry ferry_;
  std::map<std::string, std::unique_ptr<Watched>> watched_;
  std::map<uint64_t, uint64_t> admitted_;  // pods that are not started yet; by whom (Ferry)
};

/// What moves need; see tuplespace/node/pod_host.hh. Talks to supervisors directly, from any thread.
class PodMaker final : public PodHost {
 public:
  explicit PodMaker(Node& node) : node_(node) {}
  Result<RunningPod> find(uint64_t pod) override;
  Result<MadePod> make(const PodToMake& what) override;
  void departed(uint64_t pod) override;
  void discard(uint64_t pod) override;
  Result<LogPiece> log(const std::string& name, uint64_t offset) override;
  Result<std::string> hold(uint64_t pod, const std::string& name, uint64_t log_from) override;
  void release(const std::string& name) override;
  Result<void> take(const std::string& name, std::string_view held) override;

 private:
  Node& node_;
};

/// The service of a node; one each.
PodService& pod_service(Node& node);

}  // namespace godwit
