#include "tuplespace/clients/service.hh"

#include <sys/resource.h>

#include <future>
#include <thread>

#include "tuplespace/clients/server.hh"
#include "tuplespace/durable/service.hh"
#include "tuplespace/streams/service.hh"

namespace godwit {
namespace {

// A connection is a descriptor.
void allow_many_descriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

class ClientService {
 public:
  explicit ClientService(Node& node) : node_(node) {}
  ~ClientService() { stop(); }
  void stop() {
    if (server_) server_->stop();
    if (thread_.joinable()) thread_.join();
    server_ = nullptr;
  }

  Result<void> start() {
    if (node_.clients_address().empty()) return {};
    allow_many_descriptors();
    auto key = node_.home().clients_key();
    if (!key) return key.error();
    std::promise<Result<std::string>> bound;
    auto address = bound.get_future();
    thread_ = std::thread([this, key = *key, &bound] { serve(key, bound); });
    auto at = address.get();
    if (at) return node_.serves_clients_at(*at);
    node_.remark("remote clients are not served: " + at.error().message());
    return {};
  }

 private:
  // What it does in the segment is the thread's, and ends with it.
  void serve(const CommunityKey& key, std::promise<Result<std::string>>& bound) {
    auto server = clients::Server::make(node_.home(), stream_service(node_).segment());
    auto at = server ? (*server)->listen(key, node_.clients_address()) : Result<std::string>(server.error());
    bool fine = at.has_value();
    if (fine) {
      server_ = server->get();
      space_log(node_).on_written([server = server_] { server->on_written(); });
    }
    bound.set_value(std::move(at));
    if (!fine) return;
    (*server)->run();
    space_log(node_).on_written({});
  }

  Node& node_;
  clients::Server* server_ = nullptr;  // the thread's, while it runs
  std::thread thread_;
};

}  // namespace

void register_clients(Node& node) {
  auto service = std::make_shared<ClientService>(node);
  node.on_start([service] { return service->start(); });
  node.on_stop([service] { service->stop(); });
}

}  // namespace godwit
