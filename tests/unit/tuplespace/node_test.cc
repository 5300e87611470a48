// The daemon and its commands as a user meets them: real processes, real sockets.
#include "tuplespace/node/node.hh"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <fstream>
#include <random>
#include <sstream>

#include "support/godwit_process.hh"
#include "tuplespace/command/command.hh"
#include "tuplespace/node/client.hh"

namespace godwit {
namespace {

using namespace test;
using std::chrono::seconds;

bool is_one_error_line(const Finished& result, const std::string& command) {
  return result.err.starts_with("godwit " + command + ": ") && result.err.find("; ") != std::string::npos &&
         std::count(result.err.begin(), result.err.end(), '\n') == 1;
}

TEST(Command, HelpReadsAndMistakesAreOneLine) {
  TestHost host("a");
  EXPECT_EQ(host.godwit({"--version"}).out, "godwit 0.1.0\n");
  Finished help = host.godwit({"--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_NE(help.out.find("   node "), std::string::npos);
  EXPECT_EQ(help.out.find("keeper"), std::string::npos);
  EXPECT_TRUE(host.godwit({"help", "node"}).out.starts_with("usage: godwit node"));
  EXPECT_EQ(host.godwit({"node", "--help"}).out, host.godwit({"help", "node"}).out);
  for (auto words : {std::vector<std::string>{"node", "--nonsense"}, {"node", "--listen"}, {"node", "--listen", "here"},
                     {"node", "word"}, {"ps", "word"}, {"stop"}, {"stop", "a", "b"}, {"stop", "a", "--timeout", "-1"},
                     {"hosts", "word"}, {"faults", "--nonsense"}, {"help", "nonsense"}, {"help", "ps", "hosts"},
                     {"node", "--host-name", ""}, {"node", "--host-name", "a b"}, {"node", "--listen", "300.1.1.1:70"},
                     {"node", "--listen", "name:70"}, {"node", "--listen", "127.0.0.1:70000"}, {"node", "--join", "1.2.3:70"},
                     {"node", "--join", "127.0.0.1:0"}, {"node", "--join", "a b:70"}, {"node", "--segment-size", ""},
                     {"node", "--segment-size", "0"}, {"node", "--segment-size", "1M"}, {"node", "--segment-size", "65G"},
                     {"node", "--segment-size", "-1"}, {"node", "--segment-size", "512Q"}, {"node", "--segment-size", "G"},
                     {"node", "--segment-size", "99999999999999999999"}}) {
    Finished result = host.godwit(words);
    EXPECT_EQ(result.status, 2) << words[0];
    EXPECT_TRUE(is_one_error_line(result, words[0])) << result.err;
  }
  for (auto words : {std::vector<std::string>{"nonsense"}, {"--version", "word"}, {}}) {
    Finished result = host.godwit(words);
    EXPECT_EQ(result.status, 2);
    EXPECT_TRUE(result.err.starts_with("godwit: ")) << result.err;
    EXPECT_NE(result.err.find("; see godwit --help"), std::string::npos) << result.err;
  }
  EXPECT_TRUE(host.godwit({"help", "help"}).out.starts_with("usage: godwit help"));
  EXPECT_EQ(host.godwit({"help"}).out, help.out);
  EXPECT_FALSE(std::filesystem::exists(host.home() + "/node.pid"));  // nothing was started for that
}

TEST(Command, EveryPageBeginsWithItsUsageAndEverySummaryIsLowerCase) {
  TestHost host("a");
  std::istringstream overview(host.godwit({"--help"}).out);
  int commands = 0;
  for (std::string line; std::getline(overview, line);) {
    if (!line.starts_with("   ") || line.size() < 16) continue;
    std::string name = line.substr(3, line.find(' ', 3) - 3);
    EXPECT_TRUE(std::islower(static_cast<unsigned char>(line[15]))) << line;
    EXPECT_TRUE(host.godwit({"help", name}).out.starts_with("usage: godwit " + name)) << name;
    ++commands;
  }
  EXPECT_GT(commands, 8);
}

TEST(Command, AFaultThatCannotStrikeIsRefused) {
  TestHost host("a");
  Finished listed = host.godwit({"faults", "--json"}, {{"GODWIT_FAULT", "nonsense"}});
  EXPECT_EQ(listed.status, 0);
  EXPECT_NE(listed.out.find("{\"point\":\"journal.write\"}\n"), std::string::npos) << listed.out;
  for (const char* fault : {"nonsense", "journal.write:0", "journal.write:2x", "journal.write:-1",
                            "journal.write:burn", "journal.write:error:2", ":error"}) {
    Finished result = host.godwit({"ps"}, {{"GODWIT_FAULT", fault}});
    EXPECT_EQ(result.status, 2) << fault;
    EXPECT_TRUE(is_one_error_line(result, "ps")) << result.err;
    EXPECT_NE(result.err.find("see godwit faults"), std::string::npos) << result.err;
  }
  EXPECT_FALSE(std::filesystem::exists(host.home() + "/node.pid"));
  EXPECT_EQ(host.godwit({"ps"}, {{"GODWIT_FAULT", ""}}).status, 0);
}

TEST(Home, IsPrivateAndAnotherUsersIsRefused) {
  TestHost host("a");
  ASSERT_EQ(host.start_node().status, 0);
  auto mode = [](const std::string& path) { return std::filesystem::status(path).permissions(); };
  EXPECT_EQ(mode(host.home()), std::filesystem::perms(0700));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(host.home())) {
    int expected = entry.is_directory() ? 0700 : entry.is_socket() ? 0700 : 0600;
    EXPECT_EQ(static_cast<int>(entry.symlink_status().permissions()) & ~expected, 0) << entry.path();
  }
  if (geteuid() != 0) return;
  TempFolder folder;
  ASSERT_EQ(chown(folder.path().c_str(), 65534, 65534), 0);
  TestHost other("b", folder.path());
  Finished result = other.start_node();
  EXPECT_EQ(result.status, 4);
  EXPECT_TRUE(is_one_error_line(result, "node")) << result.err;
}

TEST(Home, ALongPathIsNoTrouble) {
  TempFolder folder;
  std::string path = folder.path() + "/" + std::string(120, 'x');
  TestHost host("a", path);
  EXPECT_EQ(host.start_node().status, 0);
  EXPECT_EQ(host.godwit({"hosts"}).status, 0);
}

TEST(Node, ServesUntilItIsStopped) {
  TestHost host("a");
  Finished ready = host.start_node();
  EXPECT_EQ(ready.status, 0);
  EXPECT_TRUE(ready.out.starts_with("ready a 127.0.0.1:")) << ready.out;
  Finished second = host.start_node();
  EXPECT_EQ(second.status, 4);
  EXPECT_TRUE(is_one_error_line(second, "node")) << second.err;
  Finished stopped = host.godwit({"node", "--stop"});
  EXPECT_EQ(stopped.status, 0);
  EXPECT_EQ(stopped.out, "left a; nothing runs here\n");
  EXPECT_EQ(host.godwit({"node", "--stop"}).out, "no node is running\n");
}

TEST(Node, InTheForegroundLeavesAtSigterm) {
  TestHost host("a");
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd from(ends[0]), to(ends[1]);
  pid_t child = start({GODWIT_BINARY, "node", "--foreground", "--host-name", "a"}, {{"GODWIT_HOME", host.home()}},
                      to.get(), 2);
  to.reset();
  char line[256] = {};
  ASSERT_GT(::read(from.get(), line, sizeof line - 1), 0);
  EXPECT_TRUE(std::string(line).starts_with("ready a "));
  EXPECT_EQ(host.node_pid(), child);
  kill(child, SIGTERM);
  EXPECT_EQ(take_all(from.get()), "left a; nothing runs here\n");
  EXPECT_EQ(wait_for(child), 0);
}

TEST(Node, StartsOnFirstUseAndKeepsNoneOfTheStartersDescriptors) {
  TestHost host("a");
  TempFolder folder;
  UniqueFd mark(open((folder.path() + "/mark").c_str(), O_RDWR | O_CREAT, 0600));  // inherited by the command
  Finished listed = host.godwit({"hosts", "--json"});
  EXPECT_EQ(listed.status, 0) << listed.err;
  EXPECT_NE(listed.out.find("\"address\":\"127.0.0.1:"), std::string::npos);
  std::string fds = "/proc/" + std::to_string(host.node_pid()) + "/fd";
  int seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator(fds)) {
    std::error_code ignored;
    EXPECT_NE(std::filesystem::read_symlink(entry.path(), ignored), folder.path() + "/mark");
    ++seen;
  }
  EXPECT_GT(seen, 3);
}

TEST(Node, ManyFirstUsersStartOneNode) {
  TestHost host("a");
  std::vector<pid_t> children;
  UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int i = 0; i < 8; ++i)
    children.push_back(start({GODWIT_BINARY, "hosts"}, {{"GODWIT_HOME", host.home()}}, null.get(), 2));
  for (pid_t child : children) EXPECT_EQ(wait_for(child), 0);
}

TEST(Node, ComesBackAfterSigkillAsItWas) {
  TestHost host("a");
  Finished first = host.start_node();
  host.kill_node();
  Finished again = host.godwit({"node"});
  EXPECT_EQ(again.out, first.out);  // same name, same port
}

TEST(Node, RefusesWhatItCannotListenOn) {
  UniqueFd taken(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(taken.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(taken.get(), 1), 0);
  socklen_t length = sizeof address;
  getsockname(taken.get(), reinterpret_cast<sockaddr*>(&address), &length);
  TestHost host("a");
  for (const std::string& listen : {"127.0.0.1:" + std::to_string(ntohs(address.sin_port)), std::string("192.0.2.77:0")}) {
    Finished result = host.start_node({"--listen", listen});
    EXPECT_EQ(result.status, 4);
    EXPECT_TRUE(is_one_error_line(result, "node")) << result.err;
  }
  EXPECT_EQ(host.start_node().status, 0);
}

struct stat segment_file(const TestHost& host) {
  struct stat status {};
  EXPECT_EQ(stat(("/dev/shm/" + segment_name(*Home::open_at(host.home()))).c_str(), &status), 0);
  return status;
}

TEST(SegmentSize, IsWhatTheNodeWasToldAndItRemembersIt) {
  TestHost host("a");
  for (auto [words, size] : {std::pair{std::vector<std::string>{"--segment-size", "512M"}, 512ull << 20},
                             {{}, 512ull << 20},
                             {{"--segment-size", "33554432"}, 32ull << 20},
                             {{"--segment-size=16M"}, 16ull << 20}}) {
    Finished ready = host.start_node(words);
    ASSERT_EQ(ready.status, 0) << ready.err;
    EXPECT_EQ(ready.err, "");
    EXPECT_EQ(static_cast<uint64_t>(segment_file(host).st_size), size);
    EXPECT_LT(segment_file(host).st_blocks * 512, 8 << 20);  // sparse
    host.godwit({"node", "--stop"});
  }
  EXPECT_EQ(host.godwit({"count", "(?)", "--space", "net"}).status, 0);  // whoever comes first makes it
  EXPECT_EQ(segment_file(host).st_size, 16 << 20);
}

TEST(SegmentSize, OfASegmentInUseStandsAndIsToldWithTheRemedy) {
  TestHost host("a");
  ASSERT_EQ(host.start_node({"--segment-size", "1G"}).status, 0);
  host.kill_node();  // what it leaves is in use, as far as the next one knows
  Finished second = host.start_node({"--segment-size", "512M"});
  EXPECT_EQ(second.status, 0);
  EXPECT_TRUE(second.out.starts_with("ready a ")) << second.out;
  EXPECT_EQ(std::count(second.out.begin(), second.out.end(), '\n'), 1) << second.out;
  EXPECT_TRUE(is_one_error_line(second, "node")) << second.err;
  EXPECT_NE(second.err.find("has 1G and keeps them, not 512M; "), std::string::npos) << second.err;
  EXPECT_EQ(segment_file(host).st_size, 1 << 30);
  host.godwit({"node", "--stop"});  // as the remedy says
  EXPECT_EQ(host.start_node().err, "");
  EXPECT_EQ(segment_file(host).st_size, 512 << 20);
}

TEST(Segment, OfAnotherVersionIsRefusedWithTheRemedyAndStays) {
  TestHost host("a");
  std::filesystem::create_directories(host.home());
  std::string name = segment_name(*Home::open_at(host.home()));
  ASSERT_EQ(shared::Segment::create(name.c_str(), 64 << 20), 0);
  shared::Segment segment;
  ASSERT_EQ(shared::Segment::open(name.c_str(), &segment), 0);
  segment.header().version++;
  auto inode = segment_file(host).st_ino;
  for (auto words : {std::vector<std::string>{"node"}, {"hosts"}}) {
    Finished result = host.godwit(words);
    EXPECT_EQ(result.status, words[0] == "node" ? 4 : 125);
    EXPECT_TRUE(is_one_error_line(result, words[0])) << result.err;
    EXPECT_NE(result.err.find("/dev/shm/" + name + " is a segment of another version; stop the programs that use it, then "
                              "remove it"), std::string::npos) << result.err;
  }
  EXPECT_EQ(segment_file(host).st_ino, inode);
}

TEST(Node, JoinsACommunityAndEveryHostSeesAll) {
  TestHost a("a"), b("b"), c("c"), stranger("stranger"), impostor("b");
  std::string first = TestHost::address(a.start_node());
  b.take_key_of(a);
  Finished joined = b.start_node({"--join", first});
  ASSERT_EQ(joined.status, 0) << joined.err;
  c.take_key_of(a);
  ASSERT_EQ(c.start_node({"--join", TestHost::address(joined)}).status, 0);  // by way of another
  for (const TestHost* host : {&a, &b, &c}) {
    Finished listed = host->godwit({"hosts", "--json"});
    EXPECT_EQ(std::count(listed.out.begin(), listed.out.end(), '\n'), 3) << listed.out;
  }
  impostor.take_key_of(a);
  Finished refused = impostor.start_node({"--join", first});
  EXPECT_EQ(refused.status, 4);
  EXPECT_TRUE(is_one_error_line(refused, "node")) << refused.err;
  EXPECT_NE(refused.err.find("another host named b"), std::string::npos) << refused.err;
  Finished unknown = stranger.start_node({"--join", first});
  EXPECT_EQ(unknown.status, 4);
  EXPECT_TRUE(is_one_error_line(unknown, "node")) << unknown.err;
  Finished left = c.godwit({"node", "--stop"});
  EXPECT_EQ(left.status, 0);
  Finished listed = a.godwit({"hosts", "--json"});
  EXPECT_EQ(std::count(listed.out.begin(), listed.out.end(), '\n'), 2) << listed.out;
}

TEST(Node, ReadsGoOnWhileTheFirstNodeIsAwayAndOverRestarts) {
  TestHost a("a"), b("b");
  std::string first = TestHost::address(a.start_node());
  b.take_key_of(a);
  ASSERT_EQ(b.start_node({"--join", first}).status, 0);
  a.kill_node();
  EXPECT_NE(b.godwit({"hosts"}).out.find(first), std::string::npos);
  b.kill_node(SIGTERM);
  Finished again = b.godwit({"node"});
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_NE(b.godwit({"hosts"}).out.find(first), std::string::npos);
  EXPECT_EQ(a.godwit({"node"}).out, "ready a " + first + "\n");
}

TEST(Node, GarbageOnItsPortDisturbsNobody) {
  TestHost a("a"), b("b");
  std::string first = TestHost::address(a.start_node());
  auto parsed = parse_address(first);
  ASSERT_TRUE(parsed);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(parsed->port);
  std::mt19937 random(1);
  for (int i = 0; i < 200; ++i) {
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    std::string bytes(random() % 500, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    // Half of them begin as ZMTP 3.0 does, with some mechanism.
    if (i % 2) bytes = std::string("\xff\0\0\0\0\0\0\0\x01\x7f\x03\0", 12) + (i % 4 == 1 ? "NULL" : "CURVE") + bytes;
    send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  b.take_key_of(a);
  EXPECT_EQ(b.start_node({"--join", first}).status, 0);
}

TEST(Node, AnUnknownPodIsThree) {
  TestHost host("a");
  for (auto command : {"stop", "kill", "logs"}) {
    Finished result = host.godwit({command, "nobody"});
    EXPECT_EQ(result.status, 3);
    EXPECT_TRUE(is_one_error_line(result, command)) << result.err;
  }
  EXPECT_EQ(host.godwit({"ps", "--json"}).out, "");
}

// A follower in this process, so that a test can submit.
struct Follower {
  TempFolder folder;
  std::optional<Home> home;
  std::unique_ptr<Node> node;

  Follower(const TestHost& first, const std::string& address, const std::string& name) {
    std::filesystem::copy_file(first.home() + "/community.key", folder.path() + "/community.key");
    home.emplace(std::move(*Home::open_at(folder.path())));
    auto made = Node::create(*home, {name, "", address});
    EXPECT_TRUE(made) << made.error().message();
    node = std::move(*made);
    std::optional<Result<void>> started;
    node->start([&](Result<void> result) { started = result; });
    while (!started) node->loop().run_once(seconds(1));
    EXPECT_TRUE(*started) << started->error().message();
  }
  Result<Packed> submit(DirectoryCommand command, Loop::Clock::duration patience) {
    std::optional<Result<Packed>> out;
    node->submit(std::move(command), [&](Result<Packed> result) { out = std::move(result); }, in_time(patience));
    while (!out) node->loop().run_once(seconds(1));
    return *out;
  }
};

TEST(Directory, ACommandIsRefusedWhileTheFirstNodeIsAwayAndABarrierSettlesIt) {
  TestHost a("a");
  std::string address = TestHost::address(a.start_node());
  Follower b(a, address, "b");
  ASSERT_TRUE(b.submit(pod_created("one", "", "b", ""), seconds(10)));
  EXPECT_TRUE(b.node->directory().pod_named("one"));  // reads what it wrote
  kill(a.node_pid(), SIGSTOP);
  auto refused = b.submit(pod_created("two", "", "b", ""), std::chrono::milliseconds(300));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, std::errc::host_unreachable);
  EXPECT_NE(refused.error().what.find("does not answer; start it"), std::string::npos);
  kill(a.node_pid(), SIGCONT);
  std::optional<Result<void>> barrier;
  b.node->replica().read_barrier([&](Result<void> result) { barrier = result; }, in_time(seconds(10)));
  while (!barrier) b.node->loop().run_once(seconds(1));
  ASSERT_TRUE(*barrier);
  bool happened = b.node->directory().pod_named("two") != nullptr;
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(b.submit(nothing(), seconds(10)));
  EXPECT_EQ(b.node->directory().pod_named("two") != nullptr, happened);  // and it stays so
}

class FirstNodeKilledAt : public ::testing::TestWithParam<const char*> {};

// Every acknowledged command happened, and none twice.
TEST_P(FirstNodeKilledAt, EveryCommandHappensOnce) {
  TestHost a("a");
  std::string address = TestHost::address(a.start_node());
  Follower b(a, address, "b");
  a.kill_node();
  int kills = 0;
  for (int i = 0; i < 12; ++i) {
    if (i % 4 == 0) {
      a.kill_node();
      ASSERT_EQ(a.godwit({"node"}, {{"GODWIT_FAULT", std::string(GetParam()) + ":" + std::to_string(3 + i % 3)}}).status, 0);
    }
    UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, a.node_pid(), 0)));
    std::optional<Result<Packed>> out;
    b.node->submit(pod_created("", "p", "b", ""), [&](Result<Packed> result) { out = std::move(result); },
                   in_time(seconds(30)));
    ASSERT_TRUE(process.valid());
    ASSERT_TRUE(b.node->loop().add_fd(process.get(), EPOLLIN, [&](uint32_t) {
        ++kills;
        b.node->loop().remove_fd(process.get());
        a.godwit({"node"});
      }));
    while (!out) b.node->loop().run_once(seconds(1));
    b.node->loop().remove_fd(process.get());
    ASSERT_TRUE(*out) << out->error().message();
  }
  EXPECT_GE(kills, 1);
  EXPECT_EQ(b.node->directory().pods().size(), 12u);
  for (const auto& [id, pod] : b.node->directory().pods()) EXPECT_EQ(pod.epoch, 1u);
  Finished listed = a.godwit({"ps", "--json"});
  EXPECT_EQ(std::count(listed.out.begin(), listed.out.end(), '\n'), 12) << listed.out << listed.err;
}

INSTANTIATE_TEST_SUITE_P(Points, FirstNodeKilledAt,
                         ::testing::Values("journal.before_sync", "journal.after_sync",
                                           "directory.applied.before_answer", "directory.submit.before_reply"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

TEST(Directory, AFullDiskIsARefusalAndNothingElse) {
  TestHost a("a");
  std::string address = TestHost::address(a.start_node({}, {{"GODWIT_FAULT", "journal.write:4:error"}}));
  Follower b(a, address, "b");  // before it: a's join, the barrier after it, b's join
  auto refused = b.submit(pod_created("one", "", "b", ""), seconds(10));
  EXPECT_FALSE(refused);
  EXPECT_TRUE(b.submit(pod_created("one", "", "b", ""), seconds(10)));
}

// Enough commands for a trim of the log, and a newcomer who needs the snapshot; then all again from disk.
TEST(Directory, OutlivesTrimsOfItsLog) {
  TestHost a("a");
  std::string address = TestHost::address(a.start_node());
  Follower b(a, address, "b");
  ASSERT_TRUE(b.submit(pod_created("kept", "", "b", ""), seconds(10)));
  int left = 1200;
  std::function<void(Result<Packed>)> next = [&](Result<Packed> result) {
    ASSERT_TRUE(result);
    if (--left > 0) b.node->submit(nothing(), next, in_time(seconds(60)));
  };
  for (int i = 0; i < 4; ++i) b.node->submit(nothing(), next, in_time(seconds(60)));
  while (left > 0) b.node->loop().run_once(seconds(1));
  EXPECT_TRUE(std::filesystem::exists(a.home() + "/directory/snapshot"));
  Follower c(a, address, "c");
  EXPECT_TRUE(c.node->directory().pod_named("kept"));
  a.kill_node();
  ASSERT_EQ(a.godwit({"node"}).status, 0);
  EXPECT_NE(a.godwit({"ps", "--json"}).out.find("\"pod\":\"kept\""), std::string::npos);
}

}  // namespace
}  // namespace godwit
