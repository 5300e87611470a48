// HTTP and the text format are prometheus-cpp's, whose threads call Collect.
#include "tuplespace/monitor/metrics.hh"

#include <prometheus/client_metric.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>

#include <future>

#include "tuplespace/command/version.hh"
#include "tuplespace/node/node.hh"
#include "tuplespace/node/pod_controller.hh"
#include "tuplespace/store/spaces_table.hh"
#include "tuplespace/streams/service.hh"

namespace godwit {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

constexpr auto kPatience = std::chrono::seconds(2);  // with the node's loop

struct NamedPod {
  std::string name;
  PodFacts facts;
};
struct Community {
  std::string host;
  uint64_t hosts = 0, present = 0;
  std::vector<NamedPod> pods;  // of this host
};

// f(value, label's value) gives a family its values.
class Families {
 public:
  template <class Rows, class F>
  void add(MetricType type, const char* name, const char* help, const char* label, const Rows& rows, F f) {
    MetricFamily family{name, help, type, {}};
    for (const auto& row : rows) family.metric.push_back(metric(type, f(row), {{label, row.name}}));
    all_.push_back(std::move(family));
  }
  void add(MetricType type, const char* name, const char* help, double value, std::vector<prometheus::ClientMetric::Label> labels = {}) {
    all_.push_back({name, help, type, {metric(type, value, std::move(labels))}});
  }
  std::vector<MetricFamily> take() { return std::move(all_); }

 private:
  static prometheus::ClientMetric metric(MetricType type, double value, std::vector<prometheus::ClientMetric::Label> labels) {
    prometheus::ClientMetric metric;
    metric.label = std::move(labels);
    (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    return metric;
  }
  std::vector<MetricFamily> all_;
};

void add_spaces(Families& to, const std::vector<SpaceFacts>& spaces) {
  auto add = [&](MetricType type, const char* name, const char* help, auto fact) { to.add(type, name, help, "space", spaces, fact); };
  add(MetricType::Gauge, "godwit_space_tuples", "Tuples in the space", [](const SpaceFacts& s) { return s.tuples; });
  add(MetricType::Gauge, "godwit_space_bytes", "Memory of the space's tuples", [](const SpaceFacts& s) { return s.bytes; });
  add(MetricType::Gauge, "godwit_space_capacity_bytes", "Memory that its tuples may take; 0: as the segment has",
      [](const SpaceFacts& s) { return s.capacity; });
  add(MetricType::Gauge, "godwit_space_waiters", "Who waits for a tuple", [](const SpaceFacts& s) { return s.waiters; });
  add(MetricType::Gauge, "godwit_space_damaged", "1: closed, because damage was found", [](const SpaceFacts& s) { return s.damaged; });
  add(MetricType::Counter, "godwit_space_put_total", "Tuples that were put", [](const SpaceFacts& s) { return s.put; });
  add(MetricType::Counter, "godwit_space_taken_total", "Tuples that were taken, also if they went back", [](const SpaceFacts& s) { return s.taken; });
  add(MetricType::Counter, "godwit_space_read_total", "Tuples that were read", [](const SpaceFacts& s) { return s.read; });
}

void add_community(Families& to, const Community& community) {
  auto add = [&](MetricType type, const char* name, const char* help, auto fact) { to.add(type, name, help, "pod", community.pods, fact); };
  add(MetricType::Gauge, "godwit_pod_connections", "Connections of the pod", [](const NamedPod& p) { return p.facts.connections; });
  add(MetricType::Gauge, "godwit_pod_movable", "1: it can be moved", [](const NamedPod& p) { return p.facts.movable; });
  add(MetricType::Counter, "godwit_pod_received_bytes_total", "Bytes that the pod has read of connections, on all hosts",
      [](const NamedPod& p) { return p.facts.bytes_in; });
  add(MetricType::Counter, "godwit_pod_sent_bytes_total", "Bytes that the pod has written to connections, on all hosts",
      [](const NamedPod& p) { return p.facts.bytes_out; });
  to.add(MetricType::Gauge, "godwit_pods", "Pods of this host", static_cast<double>(community.pods.size()));
  to.add(MetricType::Gauge, "godwit_hosts", "Hosts of the community", static_cast<double>(community.hosts));
  to.add(MetricType::Gauge, "godwit_hosts_present", "Hosts whose node has joined and not left", static_cast<double>(community.present));
  to.add(MetricType::Gauge, "godwit_info", "1", 1, {{"host", community.host}, {"version", std::string(kVersion)}});
}

class Metrics final : public prometheus::Collectable {
 public:
  Metrics(Node& node, shared::Segment segment) : node_(node), segment_(segment) {}

  std::vector<MetricFamily> Collect() const override {
    Families families;
    if (auto desk = store::Desk::of(segment_)) {
      auto spaces = store::list_spaces(**desk);
      std::erase_if(spaces, [](const SpaceFacts& space) { return is_own_space(space.name); });
      add_spaces(families, spaces);
    }
    const shared::Header& header = segment_.header();
    families.add(MetricType::Gauge, "godwit_segment_bytes", "Size of the host's segment", static_cast<double>(header.size));
    families.add(MetricType::Gauge, "godwit_segment_used_bytes", "What of it was ever used",
                 static_cast<double>(__atomic_load_n(&header.next_chunk, __ATOMIC_RELAXED) * shared::kChunk));
    auto asked = std::make_shared<std::promise<Community>>();
    auto community = asked->get_future();
    node_.loop().post([&node = node_, asked] { gather(node, asked); });
    if (community.wait_for(kPatience) == std::future_status::ready) add_community(families, community.get());
    return families.take();
  }

 private:
  // In the loop's thread.
  static void gather(Node& node, const std::shared_ptr<std::promise<Community>>& asked) {
    Community community{node.host_name(), node.directory().hosts().size(), 0, {}};
    for (const auto& [name, host] : node.directory().hosts()) community.present += host.present;
    if (!node.pod_controller()) return asked->set_value(std::move(community));
    node.pod_controller()->facts([&node, asked, community](std::vector<PodFacts> all) mutable {
      for (PodFacts& facts : all)
        if (const PodEntry* pod = node.directory().pod(facts.pod)) community.pods.push_back({pod->name, std::move(facts)});
      asked->set_value(std::move(community));
    });
  }

  Node& node_;
  shared::Segment segment_;
};

class MetricsService {
 public:
  explicit MetricsService(Node& node) : node_(node) {}

  // Where it cannot, the node serves all the same.
  void start() {
    const std::string& address = node_.metrics_address();
    if (address.empty()) return;
    try {
      exposer_ = std::make_unique<prometheus::Exposer>(address);
    } catch (const std::exception&) {
      return node_.remark("no metrics: cannot listen at " + address + "; give node --metrics another ADDRESS:PORT, or off");
    }
    metrics_ = std::make_shared<Metrics>(node_, stream_service(node_).segment());
    exposer_->RegisterCollectable(metrics_);
    std::string at = address.substr(0, address.rfind(':') + 1) + std::to_string(exposer_->GetListeningPorts().at(0));
    node_.remark("metrics at http://" + at + "/metrics");
  }

 private:
  Node& node_;
  std::shared_ptr<Metrics> metrics_;
  std::unique_ptr<prometheus::Exposer> exposer_;  // ends before what it collects from
};

}  // namespace

void register_metrics(Node& node) {
  auto service = std::make_shared<MetricsService>(node);
  node.on_start([service]() -> Result<void> {
    service->start();
    return {};
  });
  node.on_stop([service]() mutable { service.reset(); });
}

}  // namespace godwit
