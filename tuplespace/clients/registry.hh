// The clients that a node knows: a file each in GODWIT_HOME/clients, which godwit keygen writes.
//
// A file is named as its client, and is text: a name and a value a line; a line that begins with "#" is a comment (keys may have one).
//
//   public  KEY                 Z85; whose secret the client alone has
//   space   S read,take,put     rights on a space; "*": on all others but "net". Several lines
//   manage  yes                 may create and drop spaces
//   rate    N                   requests a second; beyond, they wait
//   memory  SIZE                of requests and answers that are not done with
//   waiters N                   requests that wait, watches, leases and transactions
#pragma once
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tuplespace/node/home.hh"

namespace godwit::clients {

enum Right : uint32_t { kRead = 1, kTake = 2, kPut = 4, kMediate = 8 };
using Rights = uint32_t;
/// "read,take,put"; "" is none. errors: invalid_argument.
Result<Rights> parse_rights(std::string_view text);
std::string to_text(Rights rights);

struct Limits {
  uint64_t rate = 1'000'000;
  uint64_t memory = uint64_t{64} << 20;  // bytes
  uint64_t waiters = 1000;
};

struct Client {
  std::string name;
  std::string key;  // Z85
  std::map<std::string, Rights, std::less<>> rights;
  bool manages = false;
  Limits limits;

  Rights rights_on(std::string_view space) const;
};

/// The file's text. errors: invalid_argument, with the line.
Result<Client> parse_client(const std::string& name, const std::string& text);
std::string to_text(const Client& client);

inline constexpr const char* kFolder = "clients";
std::string file_of(const Home& home, const std::string& name);

/// A client's file, as far as it can be read.
struct Found {
  std::string name;
  Result<Client> client;
};
std::vector<Found> read_clients(const Home& home);

/// What the folder has now. Used by one thread.
class Registry {
 public:
  explicit Registry(const Home& home);

  /// Becomes readable when the folder changes; -1: it is looked at with each refresh.
  int fd() const { return changes_.get(); }
  /// Reads what has changed. returns whether anything has.
  bool refresh();
  /// null: nobody has that key, or no longer.
  std::shared_ptr<const Client> find(std::string_view key) const;
  /// Files that are no clients, and why.
  const std::vector<std::string>& faults() const { return faults_; }

 private:
  void read();

  const Home& home_;
  UniqueFd changes_;
  std::map<std::string, std::shared_ptr<const Client>, std::less<>> by_key_;
  std::vector<std::string> faults_;
};

}  // namespace godwit::clients
