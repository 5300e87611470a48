// A process's way to its connection: in a child of fork, to one of its own.
#pragma once
#include "tuplespace/remote/connection.hh"

namespace godwit::remote {

class Link {
 public:
  static Result<Link> to(const std::string& key_file) {
    auto connection = Connection::of(key_file);
    if (!connection) return connection.error();
    return Link(key_file, *connection);
  }
  Result<Connection*> connection() const {
    if (Connection::process() == process_) return connection_;
    return Connection::of(key_file_);
  }
  const std::string& key_file() const { return key_file_; }

 private:
  Link(std::string key_file, Connection* connection)
      : key_file_(std::move(key_file)), connection_(connection), process_(Connection::process()) {}
  std::string key_file_;  // absolute
  Connection* connection_;
  uint64_t process_;
};

}  // namespace godwit::remote
