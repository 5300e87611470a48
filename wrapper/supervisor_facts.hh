// What a supervisor tells of its pod.
#pragma once
#include <cstdlib>
#include <map>
#include <string>

#include "wrapper/pod_spec.hh"

namespace godwit::wrapper {

/// The program's command line, PIDs and place.
struct SupervisorFacts {
  PodSpec spec;
  std::map<std::string, std::string> words;
  uint64_t number(const std::string& key) const {
    auto found = words.find(key);
    return found == words.end() ? 0 : std::strtoull(found->second.c_str(), nullptr, 10);
  }
};

Result<SupervisorFacts> parse_facts(const std::string& text);
/// Asks over a conversation with the supervisor (control_channel.hh), and waits for the answer.
Result<SupervisorFacts> ask_facts(int channel);

}  // namespace godwit::wrapper
