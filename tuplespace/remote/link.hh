// A process's way to its connection: in a child of fork, to one of its own.
#pragma once
#include <unistd.h>

#include "tuplespace/remote/connection.hh"

namespace godwit::remote {

class Link {
 public:
  static Result<Link> to(const std::string& key_file) {
    auto connection = Connection::of(key_file);
    if (!connection) return connection.error();
    return Link(key_file, std::move(*connection));
  }
  Result<std::shared_ptr<Connection>> connection() const {
    if (getpid() == pid_) return connection_;
    return Connection::of(key_file_);
  }
  const std::string& key_file() const { return key_file_; }

 private:
  Link(std::string key_file, std::shared_ptr<Connection> connection)
      : key_file_(std::move(key_file)), connection_(std::move(connection)), pid_(getpid()) {}
  std::string key_file_;  // absolute
  std::shared_ptr<Connection> connection_;
  int pid_;
};

}  // namespace godwit::remote
