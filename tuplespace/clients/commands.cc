#include "tuplespace/clients/commands.hh"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tuplespace/clients/registry.hh"
#include "tuplespace/node/directory.hh"
#include "tuplespace/node/transport.hh"
#include "tuplespace/posix/file.hh"

namespace godwit {
namespace {

using clients::Client;

constexpr std::string_view kKeygenUsage =
    R"(usage: godwit keygen NAME [--space S=RIGHTS]... [--manage] [LIMIT]... [--address A:P] [--output FILE]
       godwit keygen --list [--json]
       godwit keygen --revoke NAME

Makes a key with which a program uses this host's spaces from anywhere, once the node serves clients
(godwit help node), and prints it; nothing here keeps its secret. Who has the file is the client.

   --space S=RIGHTS    what it may do in a space: read, take, put, or several as in read,put; * is all spaces
                       that are not named (default: --space default=read,take,put). net, the traffic of
                       this host, is to be named: read looks at it, mediate takes and puts
   --manage            it may create and drop spaces
   --rate N            LIMIT: requests a second; those beyond wait (default 1000000)
   --memory SIZE       LIMIT: of its requests and answers that are not done with (default 64M)
   --waiters N         LIMIT: requests of it that may wait at once, with its watches, leases and
                       transactions (default 1000)
   --address A:P       where the client reaches the node, if not at the address that godwit hosts shows
   --output FILE       writes the key there, for the user alone
   --list              the clients and what they may do
   --revoke NAME       the key is good for nothing any more; a running node drops the client at once

The rights are a file, GODWIT_HOME/clients/NAME; a running node notices when it changes.
)";

Error misuse(std::string text) { return make_error(std::errc::invalid_argument, std::move(text)); }
Error no_client(const std::string& name) { return make_error(std::errc::no_such_file_or_directory, "there is no client " + name + "; see godwit keygen --list"); }

Result<void> read_space(Client& client, const std::string& word) {
  size_t equals = word.rfind('=');
  std::string space = word.substr(0, equals);
  if (equals == std::string::npos || space.empty() || space.find_first_of(" \t\n#") != std::string::npos)
    return misuse("--space takes SPACE=RIGHTS, as in bag=read,take, not '" + word + "'");
  auto rights = clients::parse_rights(word.substr(equals + 1));
  if (!rights) return rights.error();
  if (*rights == 0) return misuse("--space " + space + "= gives no right; name some, or leave it out");
  client.rights[space] |= *rights;
  return {};
}

Result<void> read_limit(uint64_t& limit, const Options& options, const char* name, uint64_t least) {
  auto word = options.value(name);
  if (!word) return {};
  auto number = parse_size(*word, uint64_t{1} << 50);
  if (!number || *number < least) return misuse(std::string(name) + " takes a number from " + std::to_string(least) + ", not '" + *word + "'");
  limit = *number;
  return {};
}

Result<Client> read_client(const Options& options) {
  Client client;
  client.name = options.words()[0];
  client.manages = options.has("--manage");
  for (const std::string& word : options.all("--space"))
    if (auto read = read_space(client, word); !read) return read.error();
  if (client.rights.empty()) client.rights["default"] = clients::kRead | clients::kTake | clients::kPut;
  if (auto read = read_limit(client.limits.rate, options, "--rate", 1); !read) return read.error();
  if (auto read = read_limit(client.limits.memory, options, "--memory", 1 << 16); !read) return read.error();
  if (auto read = read_limit(client.limits.waiters, options, "--waiters", 0); !read) return read.error();
  return client;
}

// What goes into the client's key file.
Result<std::string> address_for_clients(const Home& home, const Options& options) {
  if (auto given = options.value("--address")) {
    if (!parse_address(*given)) return misuse("--address takes ADDRESS:PORT, not '" + *given + "'");
    return *given;
  }
  auto settings = home.settings();
  if (!settings) return settings.error();
  if (settings->clients.empty())
    return make_error(std::errc::not_connected, "this host serves no clients yet; start its node with --clients A:P, or give --address");
  if (settings->clients.starts_with("0.0.0.0:") || settings->clients.starts_with("[::]:"))
    return misuse("the node serves clients at all of its addresses; say with --address A:P which one this client shall use");
  return settings->clients;
}

int make(const Home& home, const Options& options) {
  auto client = read_client(options);
  if (!client) return usage_error("keygen", client.error().what);
  auto address = address_for_clients(home, options);
  if (!address) return fail("keygen", address.error());
  auto server = home.clients_key();
  if (!server) return fail("keygen", server.error());
  auto lock = home.wait_lock("key.lock");
  if (!lock) return fail("keygen", lock.error());
  if (auto folder = home.folder(clients::kFolder); !folder) return fail("keygen", folder.error());
  std::string path = clients::file_of(home, client->name);
  if (access(path.c_str(), F_OK) == 0)
    return fail("keygen", kRefused, "there is a client " + client->name + "; choose another name, or revoke that one with godwit keygen --revoke " + client->name);
  CommunityKey key = make_key_pair();
  client->key = key.public_key;
  std::string text = "# the key of client " + client->name + " of a Godwit host; who has it is that client\naddress " + *address + "\nserver  " +
                     server->public_key + "\npublic  " + key.public_key + "\nsecret  " + key.secret_key + "\n";
  if (auto output = options.value("--output")) {
    if (auto written = replace_file(*output, text, Durable::kYes); !written) return fail("keygen", written.error());
  }
  if (auto saved = replace_file(path, clients::to_text(*client), Durable::kYes); !saved) return fail("keygen", saved.error());
  if (!options.has("--output")) std::fputs(text.c_str(), stdout);
  return kDone;
}

std::string rights_of(const Client& client) {
  std::string text;
  for (const auto& [space, rights] : client.rights) text.append(text.empty() ? "" : " ").append(space).append("=").append(clients::to_text(rights));
  return text + (client.manages ? " manage" : "");
}

int list(const Home& home, bool json) {
  std::vector<std::vector<std::string>> rows;
  int status = kDone;
  for (const clients::Found& found : clients::read_clients(home)) {
    if (!found.client) {
      status = fail("keygen", kRefused, found.client.error().message());
      continue;
    }
    const Client& client = *found.client;
    if (json) {
      nlohmann::ordered_json spaces = nlohmann::ordered_json::object();
      for (const auto& [space, rights] : client.rights) spaces[space] = clients::to_text(rights);
      nlohmann::ordered_json row = {{"client", client.name}, {"public", client.key}, {"spaces", spaces}, {"manage", client.manages},
                                    {"rate", client.limits.rate}, {"memory", client.limits.memory}, {"waiters", client.limits.waiters}};
      std::printf("%s\n", row.dump().c_str());
    }
    rows.push_back({client.name, client.key, std::to_string(client.limits.rate), std::to_string(client.limits.memory),
                    std::to_string(client.limits.waiters), rights_of(client)});
  }
  if (!json) print_table({"CLIENT", "PUBLIC", "RATE", "MEMORY", "WAITERS", "RIGHTS"}, rows);
  return status;
}

int revoke(const Home& home, const std::string& name) {
  if (!is_valid_name(name)) return fail("keygen", no_client(name));
  if (unlink(clients::file_of(home, name).c_str()) == 0) return kDone;
  return fail("keygen", errno == ENOENT ? no_client(name) : errno_error("revoking the key of " + name));
}

int keygen(const Args& args) {
  static constexpr std::array<OptionSpec, 10> kSpecs = {{{"--space", Takes::kValue}, {"--manage"}, {"--rate", Takes::kValue},
                                                         {"--memory", Takes::kValue}, {"--waiters", Takes::kValue}, {"--address", Takes::kValue},
                                                         {"--output", Takes::kValue}, {"--list"}, {"--json"}, {"--revoke", Takes::kValue}}};
  auto options = Options::parse(args, kSpecs);
  if (!options) return usage_error("keygen", options.error().what);
  bool others = options->has("--list") || options->has("--revoke");
  if (options->words().size() != (others ? 0 : 1)) return usage_error("keygen", "one NAME is needed, or --list, or --revoke NAME");
  if (!others && (!is_valid_name(options->words()[0]) || options->words()[0].ends_with(".new")))
    return usage_error("keygen", "a client's name has letters, digits, '.', '_' and '-', not '" + options->words()[0] + "'");
  auto home = Home::open();
  if (!home) return fail("keygen", home.error());
  if (options->has("--list")) return list(*home, options->has("--json"));
  if (auto name = options->value("--revoke")) return revoke(*home, *name);
  return make(*home, *options);
}

constexpr Command kCommands[] = {
    {"keygen", "make a key for a remote client of spaces; list and revoke them", kKeygenUsage, keygen},
};

}  // namespace

std::span<const Command> client_commands() { return kCommands; }

}  // namespace godwit
