#include "tuplespace/clients/registry.hh"

#include <dirent.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "tuplespace/command/command.hh"
#include "tuplespace/node/directory.hh"
#include "tuplespace/node/transport.hh"
#include "tuplespace/posix/file.hh"

namespace godwit::clients {
namespace {

constexpr std::pair<std::string_view, Right> kRights[] = {{"read", kRead}, {"take", kTake}, {"put", kPut}, {"mediate", kMediate}};
constexpr size_t kLargestFile = 1 << 20;

Error misuse(std::string text) { return make_error(std::errc::invalid_argument, std::move(text)); }

}  // namespace

Result<Rights> parse_rights(std::string_view text) {
  Rights rights = 0;
  while (!text.empty()) {
    std::string_view word = text.substr(0, text.find(','));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    auto right = std::find_if(std::begin(kRights), std::end(kRights), [&](const auto& one) { return one.first == word; });
    if (right == std::end(kRights)) return misuse("'" + std::string(word) + "' is no right; use read, take, put or mediate");
    rights |= right->second;
  }
  return rights;
}

std::string to_text(Rights rights) {
  std::string text;
  for (const auto& [word, right] : kRights)
    if (rights & right) text.append(text.empty() ? "" : ",").append(word);
  return text;
}

Rights Client::rights_on(std::string_view space) const {
  auto own = rights.find(space);
  if (own == rights.end() && space != "net") own = rights.find("*");
  return own == rights.end() ? 0 : own->second;
}

namespace {

// What a line says. errors: without the line.
Result<void> read_line(Client& client, const std::string& name, std::istringstream& line) {
  std::string value, second, more;
  if (!(line >> value)) return misuse("'" + name + "' needs a value");
  bool is_space = name == "space";
  if (is_space) line >> second;
  if (line >> more) return misuse("'" + more + "' is too much");
  if (is_space) {
    auto rights = parse_rights(second);
    if (!rights) return rights.error();
    client.rights[value] = *rights;
    return {};
  }
  if (name == "public") return client.key = value, Result<void>();
  if (name == "manage" && (value == "yes" || value == "no")) return client.manages = value == "yes", Result<void>();
  uint64_t* limit = name == "rate" ? &client.limits.rate : name == "memory" ? &client.limits.memory : name == "waiters" ? &client.limits.waiters : nullptr;
  if (!limit) return misuse("'" + name + "' is unknown");
  auto number = parse_size(value, uint64_t{1} << 50);
  if (!number || (name == "rate" && *number == 0)) return misuse("'" + value + "' is no " + name);
  *limit = *number;
  return {};
}

}  // namespace

Result<Client> parse_client(const std::string& name, const std::string& text) {
  Client client;
  client.name = name;
  std::istringstream lines(text);
  int number = 1;
  for (std::string whole; std::getline(lines, whole); ++number) {
    std::istringstream line(whole);
    std::string word;
    if (!(line >> word) || word[0] == '#') continue;
    if (auto read = read_line(client, word, line); !read)
      return misuse("client " + name + ", line " + std::to_string(number) + ": " + read.error().what + "; see godwit help keygen");
  }
  if (!is_public_key(client.key)) return misuse("client " + name + " has no public key; make it anew with godwit keygen");
  return client;
}

std::string to_text(const Client& client) {
  std::ostringstream text;
  text << "public " << client.key << "\n";
  for (const auto& [space, rights] : client.rights) text << "space " << space << " " << to_text(rights) << "\n";
  if (client.manages) text << "manage yes\n";
  text << "rate " << client.limits.rate << "\nmemory " << client.limits.memory << "\nwaiters " << client.limits.waiters << "\n";
  return text.str();
}

std::string file_of(const Home& home, const std::string& name) { return home.file(kFolder) + "/" + name; }

std::vector<Found> read_clients(const Home& home) {
  std::vector<Found> all;
  DIR* folder = opendir(home.file(kFolder).c_str());
  if (!folder) return all;
  while (const dirent* entry = readdir(folder)) {
    std::string name = entry->d_name;
    if (name[0] == '.' || name.ends_with(".new") || !is_valid_name(name)) continue;
    auto text = read_file(file_of(home, name), kLargestFile);
    all.push_back({name, text ? parse_client(name, *text) : Result<Client>(text.error())});
  }
  closedir(folder);
  std::sort(all.begin(), all.end(), [](const Found& a, const Found& b) { return a.name < b.name; });
  return all;
}

Registry::Registry(const Home& home) : home_(home), changes_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
  auto folder = home.folder(kFolder);
  uint32_t changes = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE;
  if (!folder || inotify_add_watch(changes_.get(), folder->c_str(), changes) < 0) changes_.reset();
  read();
}

bool Registry::refresh() {
  if (changes_.valid()) {
    alignas(inotify_event) char events[4096];
    bool changed = false;
    while (::read(changes_.get(), events, sizeof events) > 0) changed = true;
    if (!changed) return false;
  }
  read();
  return true;
}

void Registry::read() {
  by_key_.clear();
  faults_.clear();
  for (Found& found : read_clients(home_)) {
    if (!found.client) {
      faults_.push_back(found.client.error().message());
      continue;
    }
    std::string key = found.client->key;
    by_key_[key] = std::make_shared<Client>(std::move(*found.client));
  }
}

std::shared_ptr<const Client> Registry::find(std::string_view key) const {
  auto client = by_key_.find(key);
  return client == by_key_.end() ? nullptr : client->second;
}

}  // namespace godwit::clients
