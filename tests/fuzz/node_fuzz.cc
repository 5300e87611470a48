// Everything of the node that reads what strangers or disks hold, over a stored corpus and random
// mutations of it. A plain program: node_fuzz CORPUS [ROUNDS] [SEED]. Crashes, sanitizers and the
// assertions below are the verdict; the seed is printed.
#include <filesystem>
#include <random>

#include "tests/support/fuzz.hh"
#include "tuplespace/codec.hh"
#include "tuplespace/match.hh"
#include "tuplespace/node/directory.hh"
#include "tuplespace/node/local_log.hh"
#include "tuplespace/node/rpc.hh"
#include "tuplespace/posix/file.hh"
#include "tuplespace/text.hh"
#include "tuplespace/wire.hh"

namespace {

using namespace godwit;

using testing::check;

void fuzz_tuples(const std::string& bytes) {
  static const Tuple kTuple{"stream", "c1", "c>s", 7, Bytes{"data"}};
  if (auto tuple = decode_tuple(bytes)) check(identical(*decode_tuple(encode(*tuple)), *tuple), "msgpack round trip");
  if (auto tuple = parse_tuple(bytes)) check(identical(*parse_tuple(to_text(*tuple)), *tuple), "text round trip");
  if (auto tuple = parse_json(bytes)) check(identical(*parse_json(to_json(*tuple)), *tuple), "JSON round trip");
  if (auto wanted = decode_template(bytes)) match(*wanted, kTuple);
  if (auto wanted = parse_template(bytes)) match(*wanted, kTuple);
}

void fuzz_directory(const std::string& bytes) {
  Directory directory;
  directory.apply(1, bytes);
  check(directory.applied() == 1, "a batch counts");
  if (directory.install(bytes)) {
    Directory copy;
    check(copy.install(directory.snapshot()).has_value(), "a snapshot that was taken is good");
  }
}

struct FuzzedServer {
  CommunityKey key = make_key_pair();
  Transport transport{key};
  RpcServer rpc;
  Result<Socket> router = transport.router(Transport::Security::kNone);
  FuzzedServer() {
    rpc.serve("node.info", [](const auto&, Reply reply) { reply.done(); }, Retry::kRemembered);
    rpc.serve("params", [](const auto& params, Reply reply) { reply.send_value(pack(params)); }, Retry::kRepeated);
  }
};

void fuzz_rpc(const std::string& bytes) {
  static FuzzedServer server;
  server.rpc.on_message(*server.router, {"peer", "GW1", bytes});
  server.rpc.on_message(*server.router, {"peer", bytes, bytes});
  parse_response({"GW1", bytes});
}

void fuzz_log(const std::string& bytes, const std::string& folder) {
  std::string path = folder + "/wal.00000000000000000001";
  check(replace_file(path, bytes, Durable::kNo).has_value(), "writing the log");
  auto opened = LocalLog::open(folder, [](auto) {});
  if (opened && opened->entries.empty()) check(opened->log->last() == 0, "an empty log is at 0");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  unsigned long rounds = argc > 2 ? std::stoul(argv[2]) : 1000, seed = argc > 3 ? std::stoul(argv[3]) : std::random_device{}();
  char folder[] = "/tmp/godwit-fuzz-XXXXXX";
  check(mkdtemp(folder) != nullptr, "mkdtemp");
  unsigned long logs = 0;
  testing::fuzz(argv[1], rounds, seed, [&](const std::string& input, bool stored) {
    fuzz_tuples(input);
    fuzz_directory(input);
    fuzz_rpc(input);
    if (stored || ++logs % 50 == 0) fuzz_log(input, folder);
  });
  std::filesystem::remove_all(folder);
}
