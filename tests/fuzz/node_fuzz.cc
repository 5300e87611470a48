// Everything of the node that reads what strangers or disks hold, over a stored corpus and random
// mutations of it. A plain program: node_fuzz CORPUS [ROUNDS] [SEED]. Crashes, sanitizers and the
// assertions below are the verdict; the seed is printed.
#include <cstring>
#include <filesystem>
#include <random>

#include "tests/support/fuzz.hh"
#include "tuplespace/codec.hh"
#include "tuplespace/journal/crc32c.hh"
#include "tuplespace/journal/format.hh"
#include "tuplespace/journal/journal.hh"
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

// The checksums of a journal's file made right, so that what they guard is looked at.
std::string with_right_checksums(std::string bytes) {
  auto word_at = [&](size_t at) {
    uint32_t word;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    return word;
  };
  auto put_checksum = [&](size_t at, std::string_view of, uint32_t before) {
    uint32_t checksum = crc32c(of, before);
    bytes.replace(at, sizeof checksum, reinterpret_cast<const char*>(&checksum), sizeof checksum);
  };
  constexpr size_t kHead = journal::kHead;
  std::string_view all = bytes;
  if (bytes.size() < kHead) return bytes;
  put_checksum(kHead - 4, all.substr(0, kHead - 4), 0);
  uint32_t salt = crc32c(all.substr(8, 8));  // the id
  for (size_t at = kHead; at + kHead <= bytes.size();) {
    std::string_view record = all.substr(at + kHead, word_at(at + 4));
    put_checksum(at + 20, record, 0);
    put_checksum(at + kHead - 4, all.substr(at, kHead - 4), salt);
    at += kHead + record.size();
  }
  return bytes;
}

// What a folder gives, or nullopt if it is refused. What is given is given again.
std::optional<std::vector<std::string>> journal_in(const std::string& folder) {
  std::vector<std::string> out;
  auto hear = [&](std::string_view record) -> Result<void> {
    out.emplace_back(record);
    return {};
  };
  auto opened = Journal::open(folder, {}, {hear, [&](uint64_t, std::string_view record) { return hear(record); }, {}});
  return opened ? std::optional(out) : std::nullopt;
}

// As the only log file, and as a snapshot beside an empty one.
void fuzz_journal(const std::string& bytes, const std::string& folder) {
  journal::FileHead head = journal::decode_file_head(bytes).value_or(journal::FileHead{});
  std::string log = folder + "/" + journal::log_name(1), snapshot = folder + "/snapshot";
  for (const std::string& path : {log, snapshot}) {
    std::filesystem::remove_all(folder);
    check(std::filesystem::create_directory(folder), "making a folder");
    std::string empty = journal::encode(journal::FileHead{journal::kLogMark, journal::kVersion, head.id, 1});
    check(replace_file(log, empty, Durable::kNo).has_value(), "writing a log");
    check(replace_file(path, bytes, Durable::kNo).has_value(), "writing the file");
    if (auto first = journal_in(folder)) {
      check(journal_in(folder) == first, "what a journal gave it gives again");
      check(LocalLog::open(folder, [](auto) {}).has_value(), "it is the directory's log, too");
    }
  }
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
    if (!stored && ++logs % 50 != 0) return;
    fuzz_journal(input, folder);
    fuzz_journal(with_right_checksums(input), folder);
  });
  std::filesystem::remove_all(folder);
}
