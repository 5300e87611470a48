// The daemon of one host: the loop, its peers, its copy of the directory, and what the rooms register.
//
// A room gives `void register_xyz(Node&)`; godwit.cc lists them. Registration happens before the node
// joins its community: serve methods, hook on_start, on_stop and on_directory_change there. What must
// stay true: everything of a Node is used in the loop's thread, but Loop::post.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tuplespace/node/directory.hh"
#include "tuplespace/node/home.hh"
#include "tuplespace/node/loop.hh"
#include "tuplespace/node/peers.hh"
#include "tuplespace/node/pod_controller.hh"
#include "tuplespace/node/pod_host.hh"
#include "tuplespace/node/replica.hh"
#include "tuplespace/node/rpc.hh"
#include "tuplespace/node/transport.hh"

namespace godwit {

struct NodeOptions {
  std::string host_name;  // empty: as before, or the machine's
  std::string listen;     // A:P; empty: as before, or loopback with a port of the kernel's choice
  std::string join;       // A:P; empty: as before, or none: this is a community's first node
  uint64_t segment_size = 0;  // bytes; 0: as before, or the default
  std::string metrics{};  // A:P; "off": not any more; empty: as before, or not at all
  std::string clients{};  // the same, of remote clients
};

class Node {
 public:
  /// Takes the home's lock and binds. Fails with a sentence for the user.
  static Result<std::unique_ptr<Node>> create(const Home& home, const NodeOptions& options);
  ~Node();

  // For the rooms, from their register function on.
  Loop& loop() { return loop_; }
  /// For sockets of their own, also in other threads; closed by the end of on_stop, since ~Node waits for it.
  Transport& transport() { return *transport_; }
  Peers& peers() { return *peers_; }
  Replica& replica() { return *replica_; }  // submit, read_barrier
  const Directory& directory() const { return replica_->directory(); }
  const Home& home() const { return home_; }
  const std::string& host_name() const { return self_.name; }
  uint32_t host_number() const { return self_.number; }
  const std::string& address() const { return self_.address; }  // A:P that peers use
  /// A:P at which metrics are to be served; empty: nowhere.
  const std::string& metrics_address() const { return settings_.metrics; }
  /// The address part of address(): where to bind a carrier or a move's socket.
  std::string listen_address() const;
  /// Where remote clients are to be served, A:P; empty: nowhere.
  const std::string& clients_address() const { return settings_.clients; }
  /// Where they are. Remembered.
  Result<void> serves_clients_at(std::string address);

  void serve(std::string_view method, Handler handler, Retry retry = Retry::kRemembered) {
    server_.serve(method, std::move(handler), retry);
  }
  void call(const std::string& host, std::string_view method, Packed params, AnswerCallback callback,
            Deadline deadline, Loop::Clock::duration silence = kAnySilence) {
    peers_->call(host, method, std::move(params), std::move(callback), deadline, silence);
  }
  void submit(DirectoryCommand command, Replica::Submitted callback,
              Deadline deadline = in_time(kSubmitPatience)) {
    replica_->submit(std::move(command), std::move(callback), deadline);
  }
  /// After the host is in the directory. At a restart while the first node is away: with the directory
  /// as last seen. An error of a hook ends the start.
  void on_start(std::function<Result<void>()> hook) { start_hooks_.push_back(std::move(hook)); }
  void on_stop(std::function<void()> hook) { stop_hooks_.push_back(std::move(hook)); }
  /// Every change from on_start on. What was there before is in directory() at on_start.
  void on_directory_change(Directory::Observer observer) {
    replica_->directory().on_change([this, observer = std::move(observer)](const Change& change) {
      if (serving_) observer(change);
    });
  }
  /// Something that whoever starts the node should know, though it starts. From an on_start hook.
  void remark(std::string text) { remarks_.push_back(std::move(text)); }
  const std::vector<std::string>& remarks() const { return remarks_; }
  void set_pod_controller(std::unique_ptr<PodController> controller) { pods_ = std::move(controller); }
  PodController* pod_controller() { return pods_.get(); }
  void set_pod_host(std::unique_ptr<PodHost> host) { pod_host_ = std::move(host); }
  PodHost* pod_host() { return pod_host_.get(); }
  /// Says why the pod's program, here with this PID, could not be moved just now; empty: it could.
  using MoveJudge = std::function<std::string(uint64_t pod, int pid)>;
  void set_move_judge(MoveJudge judge) { move_judge_ = std::move(judge); }
  std::string reason_not_to_move(uint64_t pod, int pid) const { return move_judge_ ? move_judge_(pod, pid) : ""; }

  // For the command.
  /// Joins, runs the hooks, then calls back: the node serves, or why it cannot.
  void start(std::function<void(Result<void>)> callback);
  /// Runs the stop hooks, tells the community, stops the loop. discard: what spaces hold goes too.
  void leave(bool discard = false);
  /// Whether it leaves so.
  bool discards() const { return discards_; }
  /// "left H; still running here: A, B", and what else remarks of rooms say.
  std::string farewell() const;
  /// What stays besides pods when the node leaves; empty: nothing.
  void on_farewell(std::function<std::string()> remark) { farewells_.push_back(std::move(remark)); }

 private:
  Node(const Home& home, UniqueFd lock) : home_(home), lock_(std::move(lock)) {}
  Result<void> settle_identity(const NodeOptions& options);
  Result<void> bind(const NodeOptions& options);
  Result<void> bind_peers(const std::string& listen);
  Result<void> open_transport();
  Result<void> write_pid() const;
  void serve_own_methods();
  void serve_pod_methods();
  std::optional<std::string> find_address(const std::string& host) const;

  using Started = std::function<void(Result<void>)>;
  void come_back(Started callback);
  void greet(Started callback);
  Result<void> adopt_community(uint64_t community, const std::string& first);
  Result<bool> is_fresh() const;
  void join(Started callback, Deadline deadline);
  void rejoin_later();
  void started(const Started& callback);
  void announce();

  void gather_hosts(Reply reply);
  void gather_pods(Reply reply);
  void control_pod(const msgpack::object& params, Reply reply);
  void control_pod_on(const std::string& host, const std::string& name, Packed params, Reply reply, Deadline deadline);
  void find_log(const std::string& name, Packed params, Reply reply);
  void control_local_pod(const msgpack::object& params, Reply reply);
  void wait_for_end(const msgpack::object& params, Reply reply);

  const Home& home_;
  UniqueFd lock_;
  NodeSettings settings_;
  bool join_asked_ = false;  // --join was given
  uint64_t first_of_ = 0;    // the community whose log this home has
  HostEntry self_;
  Loop loop_;
  std::unique_ptr<Transport> transport_;
  RpcServer server_;
  std::unique_ptr<Socket> peer_router_, local_router_;
  std::unique_ptr<SocketWatcher> peer_watcher_, local_watcher_;
  std::unique_ptr<Peers> peers_;
  std::unique_ptr<Replica> replica_;
  std::unique_ptr<PodController> pods_;
  std::unique_ptr<PodHost> pod_host_;
  MoveJudge move_judge_;
  std::map<std::string, std::string> announced_;  // addresses newer than the directory's, by host
  std::multimap<uint64_t, Reply> ends_;           // who waits for a pod's end, by its id
  std::vector<std::function<Result<void>()>> start_hooks_;
  std::vector<std::function<void()>> stop_hooks_;
  std::vector<std::function<std::string()>> farewells_;
  bool discards_ = false;
  std::vector<std::string> remarks_;
  bool serving_ = false;  // on_start's hooks have begun
  bool leaving_ = false;
};

using RegisterRoom = void (*)(Node&);
/// godwit.cc's list, before the command runs.
void set_node_rooms(std::span<const RegisterRoom> rooms);
std::span<const RegisterRoom> node_rooms();

}  // namespace godwit
