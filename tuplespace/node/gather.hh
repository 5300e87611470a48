// One question to many hosts.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tuplespace/node/node.hh"

namespace godwit {

struct Gathering {
  std::map<std::string, Answer> answers;  // by host
  size_t missing = 0;
  std::function<void(Gathering&)> finish;
};

/// Calls `method` of each host; `finish` runs when all have answered or their time is up. Soon, or at once if there
/// are no hosts.
inline void ask_all(Node& node, const std::vector<std::string>& hosts, std::string_view method, const Packed& params,
                    Deadline deadline, std::function<void(Gathering&)> finish) {
  auto gathering = std::make_shared<Gathering>();
  gathering->missing = hosts.size();
  gathering->finish = std::move(finish);
  if (hosts.empty()) return gathering->finish(*gathering);
  for (const auto& host : hosts)
    node.call(host, method, params, [gathering, host](Answer answer) {
      gathering->answers.emplace(host, std::move(answer));
      if (--gathering->missing == 0) gathering->finish(*gathering);
    }, deadline);
}

}  // namespace godwit
