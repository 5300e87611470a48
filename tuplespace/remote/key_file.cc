#include "tuplespace/remote/key_file.hh"

#include <sys/stat.h>

#include <map>
#include <sstream>

#include "tuplespace/node/transport.hh"
#include "tuplespace/posix/file.hh"

namespace godwit {

bool is_key_file(const std::string& home) {
  struct stat status;
  return stat(home.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

Result<ClientKey> read_key_file(const std::string& path) {
  auto text = read_file(path, 65536);
  if (!text) return text.error();
  std::map<std::string, std::string> values;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name, value;  // a comment's are none that is asked for
    if (words >> name >> value) values[name] = value;
  }
  ClientKey key{values["address"], values["server"], values["public"], values["secret"]};
  if (key.address.empty() || key.server.size() != 40 || !key_pair_matches(key.public_key, key.secret_key))
    return make_error(std::errc::invalid_argument,
                      path + " is no client's key; give the file that godwit keygen wrote, or a folder for a host of your own");
  return key;
}

}  // namespace godwit
