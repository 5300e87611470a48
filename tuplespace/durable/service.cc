#include "tuplespace/durable/service.hh"

#include <map>

#include "tuplespace/streams/service.hh"

namespace godwit {
namespace {

std::map<Node*, std::unique_ptr<SpaceLog>>& logs() {
  static auto& all = *new std::map<Node*, std::unique_ptr<SpaceLog>>;
  return all;
}

Result<void> start(Node& node) {
  auto log = SpaceLog::open(node.home().file("spaces"), stream_service(node).segment(), {});
  if (!log) return log.error();
  if (!(*log)->remark().empty()) node.remark((*log)->remark());
  logs()[&node] = std::move(*log);
  return {};
}

}  // namespace

SpaceLog& space_log(Node& node) { return *logs().at(&node); }

void register_durable(Node& node) {
  node.on_start([&node] { return start(node); });
  node.on_stop([&node] { logs().erase(&node); });
}

}  // namespace godwit
