// What the node reads of its clients: their messages, their files, and its own ledger's answers; over a stored corpus and random
// mutations of it. A plain program: clients_fuzz CORPUS [ROUNDS] [SEED].
#include "tests/support/fuzz.hh"
#include "tuplespace/clients/message.hh"
#include "tuplespace/clients/registry.hh"
#include "tuplespace/clients/server.hh"

namespace {

using namespace godwit;
using testing::check;

void check_request(const clients::Request& request) {
  for (TupleView tuple : request.tuples) check(tuple.size() <= clients::kLongestList, "a tuple has few fields");
  if (request.within) check_request(*request.within);
}

void fuzz_message(const std::string& input) {
  auto message = clients::read(input);
  if (!message) return;
  check(message->session.size() == clients::kSessionBytes && message->floor >= 1 && message->floor <= message->first, "a message's numbers");
  check(message->requests.size() <= input.size(), "requests take bytes");
  for (const clients::Request& request : message->requests) check_request(request);
}

void fuzz_file(const std::string& input) {
  auto client = clients::parse_client("name", input);
  if (!client) return;
  auto again = clients::parse_client("name", clients::to_text(*client));
  check(again && again->key == client->key && again->rights == client->rights && again->manages == client->manages, "round trip of a client's file");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  unsigned long rounds = argc > 2 ? std::stoul(argv[2]) : 1000, seed = argc > 3 ? std::stoul(argv[3]) : std::random_device{}();
  testing::fuzz(argv[1], rounds, seed, [](const std::string& input, bool) {
    fuzz_message(input);
    fuzz_file(input);
    clients::read_answers(input);
  });
}
