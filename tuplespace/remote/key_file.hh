// The key of a client of another host, in a file as `godwit keygen` prints it (docs/protocol.md, "Keys and transport").
#pragma once
#include <string>

#include "tuplespace/result.hh"

namespace godwit {

struct ClientKey {
  std::string address;                            // A:P
  std::string server, public_key, secret_key;  // Z85
};

/// Whether that home is a key file, and so another host.
bool is_key_file(const std::string& home);
/// errors  invalid_argument: what is in it is no key.
Result<ClientKey> read_key_file(const std::string& path);

}  // namespace godwit
