// godwit run as a user sees it, with a node and a home of the test's own.
#include <gtest/gtest.h>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <regex>
#include <sstream>

#include "tests/support/godwit_process.hh"
#include "tuplespace/streams/host_segment.hh"

namespace godwit::test {
namespace {

// "godwit COMMAND: what is wrong; what to do"
bool is_one_line_with_remedy(const std::string& text) {
  return text.rfind("godwit ", 0) == 0 && text.find(": ") != std::string::npos && text.find("; ") != std::string::npos &&
         text.find('\n') == text.size() - 1;
}

class Run : public ::testing::Test {
 protected:
  void TearDown() override {
    godwit({"node", "--stop"});
    auto home = Home::open_at(home_.path());
    if (home) unlink(("/dev/shm/" + segment_name(*home)).c_str());
  }
  Finished godwit(std::vector<std::string> words) {
    words.insert(words.begin(), GODWIT_BINARY);
    return run(words, {{"GODWIT_HOME", home_.path()}});
  }
  Finished godwit_struck_at(const std::string& point, std::vector<std::string> words) {
    words.insert(words.begin(), GODWIT_BINARY);
    return run(words, {{"GODWIT_HOME", home_.path()}, {"GODWIT_FAULT", point}});
  }
  Finished shell(const std::string& script) {
    return run({"/bin/sh", "-c", "G='" GODWIT_BINARY "'; " + script}, {{"GODWIT_HOME", home_.path()}});
  }
  std::string movable_after(const std::string& python);
  TempFolder home_;
};

TEST_F(Run, PassesOutputAndStatusOn) {
  auto done = godwit({"run", "--", "sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(done.status, 7);
  EXPECT_EQ(done.out, "out\n");
  EXPECT_EQ(done.err, "err\n");
}

TEST_F(Run, TellsHowAProgramEnded) {
  EXPECT_EQ(godwit({"run", "--", "sh", "-c", "kill -TERM $$"}).status, 128 + SIGTERM);
  EXPECT_EQ(godwit({"run", "--", "sh", "-c", "kill -KILL $$"}).status, 128 + SIGKILL);
  auto missing = godwit({"run", "--", "/nonexistent/program"});
  EXPECT_EQ(missing.status, 127);
  EXPECT_EQ(missing.err.rfind("godwit run: ", 0), 0u) << missing.err;
  EXPECT_EQ(godwit({"run", "--", "/etc/passwd"}).status, 126);
}

TEST_F(Run, BadOptionsAreUsageErrors) {
  for (std::vector<std::string> options : {std::vector<std::string>{"--publish", "nonsense"}, {"--publish", "localhost:0:80"},
                                           {"--publish", "1.2.3:0:80"}, {"--publish", "0:0"}, {"--publish", "70000:80"},
                                           {"--name", ""}, {"--name", "a/b"}, {"--host", ""}, {"--host", "a b"}}) {
    std::vector<std::string> words{"run"};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {"--", "true"});
    auto done = godwit(words);
    EXPECT_EQ(done.status, 2) << options[0] << " " << options[1];
    EXPECT_TRUE(is_one_line_with_remedy(done.err)) << done.err;
  }
  EXPECT_EQ(godwit({"run"}).status, 2);
}

TEST_F(Run, WhatIsNoProgramIsSaidWithARemedy) {
  std::ofstream(home_.path() + "/script") << "#!/nonexistent/interpreter\n";
  std::filesystem::permissions(home_.path() + "/script", std::filesystem::perms::owner_all);
  struct Case {
    std::string program;
    int status;
    std::string words;
  };
  for (const Case& c : {Case{"", 127, "name is empty"}, Case{"no-such-program", 127, "not in PATH"},
                        Case{"/nonexistent/program", 127, "is not there"}, Case{"/etc/passwd/program", 127, "is not there"},
                        Case{home_.path() + "/script", 127, "interpreter of "}, Case{"/etc/passwd", 126, "may not be executed"},
                        Case{"/tmp", 126, "is a directory"}}) {
    auto done = godwit({"run", "--", c.program});
    EXPECT_EQ(done.status, c.status) << c.program;
    EXPECT_NE(done.err.find(c.words), std::string::npos) << done.err;
    EXPECT_TRUE(is_one_line_with_remedy(done.err)) << done.err;
  }
}

TEST_F(Run, WhereNothingCanBePublishedIsSaidWithARemedy) {
  UniqueFd taken(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {}};
  socklen_t length = sizeof address;
  ASSERT_EQ(::bind(taken.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(::listen(taken.get(), 1), 0);
  ::getsockname(taken.get(), reinterpret_cast<sockaddr*>(&address), &length);
  std::string port = std::to_string(ntohs(address.sin_port));
  auto refused = [&](const std::string& where) {
    auto done = godwit({"run", "--name", "refused", "--publish", where, "--", "true"});
    EXPECT_EQ(done.status, 4) << where;
    EXPECT_TRUE(is_one_line_with_remedy(done.err)) << done.err;
    return done.err;
  };
  EXPECT_EQ(refused("127.0.0.1:" + port + ":80"),
            "godwit run: cannot publish at 127.0.0.1:" + port + ": Address already in use; publish another port, or stop what listens there\n");
  EXPECT_NE(refused("192.0.2.77:0:80").find("; publish at an address of this host"), std::string::npos);
  EXPECT_EQ(godwit({"ps", "--json"}).out, "");
}

TEST_F(Run, AHomeThatCannotBeUsedIsRefusedByEveryCommandAlike) {
  std::string file = home_.path() + "/file", others = home_.path() + "/others";
  std::ofstream(file) << "x";
  std::filesystem::create_directory(others);
  if (::geteuid() != 0 || ::chown(others.c_str(), 65534, 65534) != 0) others = "/";
  for (const std::string& home : {file, others, std::string("/proc/godwit/home")})
    for (std::vector<std::string> words : {std::vector<std::string>{"run", "--", "true"}, {"ps"}, {"node"}, {"out", "(1)"}, {"stop", "x"}}) {
      words.insert(words.begin(), GODWIT_BINARY);
      auto done = run(words, {{"GODWIT_HOME", home}});
      EXPECT_EQ(done.status, 4) << home << " " << words[1];
      EXPECT_TRUE(is_one_line_with_remedy(done.err)) << done.err;
    }
}

TEST_F(Run, AnOpenHomeIsClosedAndThatIsSaid) {
  std::filesystem::permissions(home_.path(), std::filesystem::perms::all);
  EXPECT_EQ(godwit({"run", "--", "true"}).err,
            "godwit: GODWIT_HOME " + home_.path() + " was open to other users, mode 777; it is 0700 now\n");
  EXPECT_EQ(godwit({"run", "--", "true"}).err, "");
}

TEST_F(Run, AHomeIsOneHostHoweverItIsNamed) {
  godwit({"run", "--detach", "--name", "one", "--", "sleep", "1000"});
  auto names = shell("cd $GODWIT_HOME; N=$(basename $PWD); for home in ../$N . ../$N/pods/.. $PWD/; do GODWIT_HOME=$home $G ps --json | grep -c one; done");
  EXPECT_EQ(names.out, "1\n1\n1\n1\n") << names.err;
  auto unset = shell("export HOME=$GODWIT_HOME/user; unset XDG_STATE_HOME; GODWIT_HOME= $G ps --json; ls -d $HOME/.local/state/godwit/node.pid; GODWIT_HOME= $G node --stop; rm -rf $HOME");
  EXPECT_EQ(unset.out.rfind(home_.path() + "/user/.local/state/godwit/node.pid\n", 0), 0u) << unset.out << unset.err;
  godwit({"kill", "one"});
}

TEST_F(Run, AKilledSupervisorIsSaidWithARemedy) {
  auto done = shell("$G run --name cut -- sh -c 'echo up; exec sleep 1000' 2>$GODWIT_HOME/err | { read up;"
                    "P=$($G ps --json | python3 -c 'import json; print(json.loads(input())[\"pid\"])');"
                    "for i in 1 2; do P=$(awk '/^PPid:/ {print $2}' /proc/$P/status); done; kill -9 $P; cat; }; cat $GODWIT_HOME/err");
  EXPECT_TRUE(is_one_line_with_remedy(done.out)) << done.out;
}

TEST_F(Run, CarriesStdinBothWays) {
  auto done = shell("head -c 3000000 /dev/zero | $G run -- cat | wc -c");
  EXPECT_EQ(done.out, "3000000\n");
  EXPECT_EQ(shell("echo hi | $G run -- cat").out, "hi\n");
}

TEST_F(Run, ClosedOutputReachesTheProgram) { EXPECT_EQ(shell("$G run -- yes | head -n 2; echo done").out, "y\ny\ndone\n"); }

TEST_F(Run, LeavesTheProgramsWorldAlone) {
  std::string probe = "pwd; umask; ulimit -n; echo \"$PROBE\"; echo \"$0 $1\"; cat <&9";
  auto bare = shell("cd /tmp; umask 027; export PROBE='a b'; exec 9</etc/hostname; sh -c '" + probe + "' name 'x  y'");
  auto pod = shell("cd /tmp; umask 027; export PROBE='a b'; exec 9</etc/hostname; $G run -- sh -c '" + probe + "' name 'x  y'");
  EXPECT_EQ(pod.out, bare.out);
  EXPECT_EQ(pod.err, "");
  auto environment = shell("$G run -- env | grep -v ^LD_PRELOAD= | sort >$GODWIT_HOME/pod; env | sort >$GODWIT_HOME/bare;"
                           "grep -v '^_=' $GODWIT_HOME/pod >$GODWIT_HOME/a; grep -v '^_=' $GODWIT_HOME/bare >$GODWIT_HOME/b; diff $GODWIT_HOME/a $GODWIT_HOME/b && echo same");
  EXPECT_EQ(environment.out, "same\n");
}

TEST_F(Run, PassesSignalsOn) {
  auto done = shell("$G run --name sig -- sh -c 'trap \"echo got; exit 9\" TERM; echo up; while :; do sleep 0.05; done' >$GODWIT_HOME/out & P=$!;"
                    "until grep -q up $GODWIT_HOME/out; do sleep 0.02; done; kill -TERM $P; wait $P; echo $?; cat $GODWIT_HOME/out");
  EXPECT_EQ(done.out, "9\nup\ngot\n");
}

TEST_F(Run, DetachedPodsAreSeenStoppedAndRead) {
  auto started = godwit({"run", "--detach", "--name", "sleeper", "--", "sh", "-c", "echo words; exec sleep 1000"});
  EXPECT_EQ(started.out, "sleeper\n");
  auto listed = godwit({"ps", "--json"});
  EXPECT_NE(listed.out.find("\"pod\":\"sleeper\""), std::string::npos) << listed.out;
  EXPECT_NE(listed.out.find("\"movable\":true"), std::string::npos) << listed.out;
  EXPECT_EQ(godwit({"run", "--name", "sleeper", "--", "true"}).status, 4);
  EXPECT_EQ(godwit({"stop", "sleeper"}).status, 0);
  EXPECT_EQ(godwit({"logs", "sleeper"}).out, "words\n");
  EXPECT_EQ(godwit({"ps", "--json"}).out, "");
  EXPECT_EQ(godwit({"stop", "sleeper"}).status, 3);
}

TEST_F(Run, AKilledStartersNameIsFreeAtOnce) {
  for (const char* point : {"run.admitted", "run.prepared"}) {
    EXPECT_EQ(godwit_struck_at(point, {"run", "--name", "cut", "--", "true"}).status, 128 + SIGKILL) << point;
    auto again = godwit({"run", "--name", "cut", "--", "sh", "-c", "exit 6"});
    EXPECT_EQ(again.status, 6) << point << ": " << again.err;
    shell("until [ -z \"$($G ps --json)\" ]; do sleep 0.02; done");
  }
}

TEST_F(Run, AStarterKilledAfterTheStartLeavesItsPodToTheNode) {
  EXPECT_EQ(godwit_struck_at("run.started", {"run", "--name", "cut", "--", "sleep", "1000"}).status, 128 + SIGKILL);
  auto listed = godwit({"ps", "--json"});
  EXPECT_NE(listed.out.find("\"state\":\"running\""), std::string::npos) << listed.out;
  EXPECT_EQ(godwit({"kill", "cut"}).status, 0);
}

TEST_F(Run, WhatAKilledSupervisorLeavesIsReclaimedAndNothingElse) {
  auto file_of = [&](const std::string& pod) {
    return shell("P=$($G ps --json | python3 -c 'import json, sys\nfor line in sys.stdin:\n pod = json.loads(line)\n if pod[\"pod\"] == \"" + pod +
                 "\": print(pod[\"pid\"])'); echo $P /dev/shm/godwit-pod-$(readlink /proc/$P/ns/pid | tr -dc 0-9)").out;
  };
  auto parent = [](int pid) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string word; status >> word;)
      if (word == "PPid:") return status >> pid, pid;
    return 0;
  };
  godwit({"run", "--detach", "--name", "living", "--", "sleep", "1000"});
  godwit({"run", "--detach", "--name", "killed", "--", "sleep", "1000"});
  std::istringstream living(file_of("living")), killed(file_of("killed"));
  int pid;
  std::string living_file, killed_file;
  ASSERT_TRUE(living >> pid >> living_file);
  ASSERT_TRUE(killed >> pid >> killed_file);
  ASSERT_TRUE(std::filesystem::exists(living_file) && std::filesystem::exists(killed_file)) << killed_file;
  int supervisor = parent(parent(pid));
  ASSERT_GT(supervisor, 1);
  UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, supervisor, 0)));
  ASSERT_EQ(::kill(supervisor, SIGKILL), 0);
  pollfd gone{process.get(), POLLIN, 0};
  ASSERT_EQ(poll(&gone, 1, 10'000), 1);
  EXPECT_EQ(godwit({"run", "--", "true"}).status, 0);
  EXPECT_FALSE(std::filesystem::exists(killed_file));
  EXPECT_TRUE(std::filesystem::exists(living_file));
  EXPECT_EQ(godwit({"kill", "living"}).status, 0);
}

TEST_F(Run, PodsOutliveTheNodeAndAreFoundAgain) {
  godwit({"run", "--detach", "--name", "survivor", "--", "sleep", "1000"});
  auto pid = shell("cat $GODWIT_HOME/node.pid");
  UniqueFd node(static_cast<int>(syscall(SYS_pidfd_open, std::stoi(pid.out), 0)));
  ASSERT_EQ(::kill(std::stoi(pid.out), SIGKILL), 0);
  pollfd gone{node.get(), POLLIN, 0};
  ASSERT_EQ(poll(&gone, 1, 10'000), 1);
  auto listed = godwit({"ps", "--json"});  // starts a node
  EXPECT_NE(listed.out.find("\"pod\":\"survivor\""), std::string::npos) << listed.out << listed.err;
  EXPECT_NE(listed.out.find("\"state\":\"running\""), std::string::npos) << listed.out;
  EXPECT_EQ(godwit({"kill", "survivor"}).status, 0);
}

TEST_F(Run, StaticProgramsRunNativelyAndAreNotMovable) {
  EXPECT_EQ(godwit({"run", "--", STATIC_PROGRAM}).status, 5);
  auto done = shell("printf '#!%s\\nexit\\n' " STATIC_PROGRAM " >$GODWIT_HOME/s; chmod +x $GODWIT_HOME/s; $G run -- $GODWIT_HOME/s");
  EXPECT_EQ(done.out, "static\n");
}

// What `godwit ps` says of a pod whose program has done this, and waits.
std::string Run::movable_after(const std::string& python) {
  return shell("$G run --detach --name judged -- /usr/bin/python3 -c 'import os, socket, time\n" + python +
               "\nprint(\"made\", flush=True)\ntime.sleep(1000)' >/dev/null; until $G logs judged | grep -q made; do sleep 0.02; done;"
               "$G ps --json | python3 -c 'import json; pod = json.loads(input()); print(pod[\"movable\"], pod[\"reason\"])'; $G kill judged;"
               "until [ -z \"$($G ps --json)\" ]; do sleep 0.02; done").out;
}

TEST_F(Run, WhatIsNotServedIsNativeAndSaysWhyItCannotMove) {
  EXPECT_NE(movable_after("s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)").find(") is a UDP socket\n"), std::string::npos);
  EXPECT_NE(movable_after("s = socket.socket(socket.AF_UNIX)").find(") is a UNIX domain socket\n"), std::string::npos);
  EXPECT_EQ(movable_after("s = socket.socket(socket.AF_INET)"), "True \n");
}

TEST_F(Run, PodsOfSeveralProcessesOrWithPipesLeadingOutAreNotMovable) {
  const char* processes = "False it has child processes; only a pod of one process can be moved yet\n";
  EXPECT_EQ(movable_after("if os.fork() == 0: time.sleep(1000)"), processes);
  EXPECT_EQ(movable_after("if os.fork() == 0:\n  if os.fork() == 0: time.sleep(1000)\n  os._exit(0)\nos.wait()"), processes);
  EXPECT_EQ(movable_after("if os.fork() == 0: os._exit(0)\nos.wait()"), "True \n");
  EXPECT_NE(movable_after("r, w = os.pipe(); os.close(w)").find(") leads out of the pod\n"), std::string::npos);
  EXPECT_EQ(movable_after("r, w = os.pipe(); os.dup2(1, 9)"), "True \n");
}

TEST_F(Run, ReturnsWithTheProgramsStatusWhileItsDescendantsKeepThePodAlive) {
  auto done = shell("$G run --name left -- sh -c 'sleep 1000 >/dev/null 2>&1 & echo started; exit 3'; echo $?;"
                    "$G ps --json | python3 -c 'import json; pod = json.loads(input()); print(pod[\"pod\"], pod[\"state\"], pod[\"movable\"], pod[\"reason\"])';"
                    "$G logs left; $G stop left; echo $?; $G ps --json");
  EXPECT_EQ(done.out, "started\n3\nleft running False its program has ended\nstarted\n0\n") << done.err;
}

// As another user could who reads /proc/net/unix: takes the coming numbers of the names that are bound, with and without what
// follows the number in them.
std::vector<UniqueFd> squat(uint64_t segment) {
  std::vector<UniqueFd> held;
  std::ifstream names("/proc/net/unix");
  char id[17];
  snprintf(id, sizeof id, "%016lx", segment);
  std::regex pattern("@(godwit/" + std::string(id) + "/[lc]/)([0-9a-f]+)(.*)");
  std::smatch found;
  for (std::string line; std::getline(names, line);) {
    if (!std::regex_search(line, found, pattern)) continue;
    for (uint64_t step = 1; step <= 64; ++step) {
      char number[17];
      snprintf(number, sizeof number, "%llx", std::stoull(found[2], nullptr, 16) + step);
      for (const std::string& rest : {std::string(), found[3].str()}) {
        sockaddr_un address{AF_UNIX, {}};
        std::string name = found[1].str() + number + rest;
        name.copy(address.sun_path + 1, sizeof address.sun_path - 1);
        UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
        if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length) == 0 && ::listen(fd.get(), 8) == 0)
          held.push_back(std::move(fd));
      }
    }
  }
  return held;
}

TEST_F(Run, ASquatterOfComingNamesHasNoEffect) {
  auto serve = [&](const std::string& name, int port) {
    shell("$G run --detach --name " + name + " -- /usr/bin/python3 -c 'import socket; s = socket.create_server((\"127.0.0.1\", " +
          std::to_string(port) + ")); print(\"up\", flush=True)\nwhile True: s.accept()[0].sendall(b\"served\")' >/dev/null;"
          "until $G logs " + name + " | grep -q .; do :; done");
    return shell("$G run -- /usr/bin/python3 -c 'import socket; print(socket.create_connection((\"127.0.0.1\", " +
                 std::to_string(port) + ")).recv(10))'").out;
  };
  ASSERT_EQ(serve("first", 7001), "b'served'\n");
  shared::Segment segment;
  ASSERT_EQ(shared::Segment::open(segment_name(*Home::open_at(home_.path())).c_str(), &segment), 0);
  auto held = squat(segment.header().id);
  ASSERT_GE(held.size(), 128u);
  EXPECT_EQ(serve("second", 7002), "b'served'\n");
  shell("$G kill first; $G kill second");
}

TEST_F(Run, RedisServesPodsAndOutsiders) {
  auto done = shell(
      "D=$GODWIT_HOME; $G run --detach --name db --publish 127.0.0.1:0:6379 -- redis-server --save '' --dir /tmp >/dev/null;"
      "until $G run -- redis-cli ping >$D/ping 2>&1 && grep -q PONG $D/ping; do sleep 0.05; done;"
      "$G run -- redis-cli set key value; $G run -- redis-cli get key;"
      "$G run -- redis-benchmark -t set,get,lpush -c 20 -n 20000 -P 8 -q >$D/bench 2>&1; echo bench $?;"
      "$G run -- redis-cli dbsize | grep -c '[1-9]'; $G run -- redis-cli shutdown nosave; until [ -z \"$($G ps --json)\" ]; do sleep 0.02; done");
  EXPECT_EQ(done.out, "OK\nvalue\nbench 0\n1\n") << done.err;
}

}  // namespace
}  // namespace godwit::test
