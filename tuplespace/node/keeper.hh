// The keeper: a small process beside the node that only holds descriptors under names, and outlives it.
//
// The protocol, on the seqpacket socket HOME/keeper.sock, is one msgpack map a message with descriptors
// attached: {op: put|drop|list|all, name, blob}; answered by {code, what, more} and, for list and all,
// first by a {name, blob, more: true} for each. What must stay true: a put is whole or not at all, and
// replaces what had the name; `all` gives copies, so the keeper still holds them if the taker dies; the
// keeper ends when it has held nothing for a while and nobody is connected.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "tuplespace/node/home.hh"
#include "tuplespace/posix/unique_fd.hh"
#include "tuplespace/result.hh"

namespace godwit {

inline constexpr size_t kMaxHeldBlob = 64 * 1024;  // bytes
inline constexpr size_t kMaxHeldDescriptors = 250;  // under one name; the kernel passes 253

/// The node's side. Calls wait for the keeper's answer, some microseconds; any one thread.
class Keeper {
 public:
  struct Held {
    std::string name;
    std::string blob;
    std::vector<UniqueFd> fds;
  };

  explicit Keeper(const Home& home) : home_(home) {}

  /// Starts the keeper if none runs. Borrows the descriptors.
  Result<void> put(const std::string& name, std::span<const int> fds, std::string_view blob);
  /// Absent: nothing.
  Result<void> drop(const std::string& name);
  /// Without the descriptors. No keeper: empty.
  Result<std::vector<Held>> list();
  Result<std::vector<Held>> all();

 private:
  Result<void> connect(bool start);
  Result<std::vector<Held>> ask(const std::string& request, std::span<const int> fds);
  Result<std::vector<Held>> ask_again(const std::string& request, std::span<const int> fds, bool start);
  const Home& home_;
  UniqueFd socket_;
};

/// The keeper's process; returns when it has nothing to do.
Result<void> run_keeper(const Home& home);

}  // namespace godwit
