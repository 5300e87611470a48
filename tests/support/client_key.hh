// Hosts that serve clients, and keys to them.
#pragma once
#include "tests/support/godwit_process.hh"

namespace godwit::test {

inline Finished start_node_for_clients(const TestHost& host, const Environment& more = {}) {
  return host.start_node({"--clients", "127.0.0.1:0"}, more);
}

/// The file of a new client's key. address: instead of the node's.
inline std::string client_key(const TestHost& host, const std::string& client, const std::string& address = "") {
  std::string file = host.home() + "-" + client + ".key";
  std::vector<std::string> words = {"keygen", client, "--space", "*=read,take,put", "--manage", "--output", file};
  if (!address.empty()) words.insert(words.end(), {"--address", address});
  Finished made = host.godwit(words);
  if (made.status != 0) throw std::runtime_error("keygen: " + made.err);
  return file;
}

}  // namespace godwit::test
