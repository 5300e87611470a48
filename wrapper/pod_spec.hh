// What `godwit run` was asked for, kept in the pod's directory for whoever looks after the pod later:
// GODWIT_HOME/pods/NAME/{spec,control,log}.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tuplespace/result.hh"

namespace godwit::wrapper {

struct PodSpec {
  std::string name;
  std::string host;                    // virtual host's name; the pod's name unless --host
  std::vector<std::string> publish;    // "[A:]P:P2", as given
  std::vector<std::string> command;    // argv
  std::string reason;                  // why it can never be moved; empty if it can
};

/// Where a pod lives in its host's segment. From the node when there is one, see PodHooks.
struct PodPlace {
  std::string segment;  // name in /dev/shm
  uint32_t member = 0;
  uint64_t pod = 0;
};

/// Lines "key value", values percent-encoded: so any byte may stand in an argument.
std::string format_spec(const PodSpec& spec);
Result<PodSpec> parse_spec(const std::string& text);

std::string percent_encode(const std::string& raw);
std::string percent_decode(const std::string& text);

/// A name may be used as a file name: letters, digits, '.', '_', '-', not first '.' or '-', at most 63.
bool valid_pod_name(const std::string& name);
/// Makes pods/NAME. A directory that nobody looks after any more is cleared. pods: GODWIT_HOME/pods.
/// errors: file_exists: a living pod has the name.
Result<std::string> claim_pod_directory(const std::string& pods, const std::string& name);
void remove_pod_directory(const std::string& directory);

}  // namespace godwit::wrapper
