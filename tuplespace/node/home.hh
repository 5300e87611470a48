// GODWIT_HOME: the folder that is one host. Keys, logs, directory, pods.
//
// What must stay true: the folder is 0700 and ours, everything in it 0600 (sub-folders 0700); a folder
// of another user is refused. node.lock is held by the one node that serves this home, keeper.lock by
// its keeper: a lock of the open file, so it ends with its holder. Socket names in the folder go through socket_path,
// because a home's path may be longer than a socket address can hold.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/result.hh"

namespace godwit {

/// The community's CURVE key pair, in ZeroMQ's Z85 form. Every node has the same.
struct CommunityKey {
  std::string public_key;
  std::string secret_key;
};

/// What a node remembers over restarts, in HOME/node.conf.
struct NodeSettings {
  std::string host_name;
  std::string listen;         // A:P as last bound
  std::string join;           // A:P; empty: this is the community's first node
  uint64_t community = 0;     // random, made by the first node; 0: none yet
  uint64_t home = 0;          // random, who this home is
  uint32_t host_number = 0;   // random, 24 bits
  uint64_t segment_size = 0;  // bytes, of a segment that is made anew; 0: the default
  std::string metrics;        // A:P; empty: not served
  std::string clients;        // A:P as last bound, where remote clients are served; empty: they are not
};

class Home {
 public:
  /// GODWIT_HOME or its default, made if it is missing. Errors name the folder and the remedy.
  static Result<Home> open();
  static Result<Home> open_at(const std::string& path);
  /// The path that open() opens; also a client's key file (remote/key_file.hh).
  static std::string named();

  const std::string& path() const { return path_; }  // absolute
  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }
  /// A name for bind and connect that fits sun_path; valid in this process while this Home lives.
  std::string socket_path(std::string_view name) const;
  /// Makes a folder in the home, 0700.
  Result<std::string> folder(std::string_view name) const;

  /// Makes the key on first use.
  Result<CommunityKey> community_key() const;
  Result<CommunityKey> clients_key() const;  // of the node, for its clients
  Result<NodeSettings> settings() const;  // none yet: defaults
  Result<void> save(const NodeSettings& settings) const;

  /// The lock called `name`, or nullopt if another process holds it.
  Result<std::optional<UniqueFd>> try_lock(std::string_view name) const;
  Result<UniqueFd> wait_lock(std::string_view name) const;
  bool is_locked(std::string_view name) const;  // asks without taking it
  /// node.pid's content if a node holds the lock.
  std::optional<int> running_node() const;

  /// Pods that have a folder here, by name.
  std::vector<std::string> pod_folders() const;

 private:
  Result<CommunityKey> key_pair(const std::string& path, const Error& bad) const;
  explicit Home(std::string path, UniqueFd folder) : path_(std::move(path)), folder_(std::move(folder)) {}
  std::string path_;
  UniqueFd folder_;
};

}  // namespace godwit
