// Any split of writes and reads and any placement of moves between them gives the same bytes once and in order: with real
// programs on two hosts, either of which moves. The model is two counters a direction.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

namespace {

constexpr uint32_t kMostUnderWay = 64 << 10;  // so that a blocking write always has room
const char* const kPrograms[] = {"client", "server"};

// A conversation with support/two_hosts.py.
class TwoHosts {
 public:
  TwoHosts() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    if (child_ = fork(); child_ == 0) {
      dup2(ends[1], 0);
      dup2(ends[1], 1);
      execl(PYTHON, PYTHON, "-W", "ignore", TWO_HOSTS, nullptr);
      _exit(127);
    }
    close(ends[1]);
    stream_ = fdopen(ends[0], "r+");
    setvbuf(stream_, nullptr, _IONBF, 0);
    ready = answer() == "ready";
  }
  ~TwoHosts() {
    fclose(stream_);
    waitpid(child_, nullptr, 0);
  }
  std::string ask(const std::string& what) {
    std::string line = what + "\n";
    if (fwrite(line.data(), 1, line.size(), stream_) != line.size()) return "the hosts are gone";
    return answer();
  }
  bool ready = false;

 private:
  std::string answer() {
    std::string line;
    for (int c; (c = fgetc(stream_)) != EOF && c != '\n';) line += static_cast<char>(c);
    return line;
  }
  pid_t child_;
  FILE* stream_;
};

TwoHosts& hosts() {
  static TwoHosts all;
  return all;
}

struct Step {
  enum Kind { kWrite, kRead, kMove } kind;
  int program;    // who writes, reads or moves
  uint32_t size;  // bytes at most; or, if odd, to host b
};
void showValue(const Step& step, std::ostream& out) {
  out << kPrograms[step.program] << " " << (step.kind == Step::kWrite ? "writes " : step.kind == Step::kRead ? "reads " : "moves ")
      << step.size;
}

rc::Gen<Step> step() {
  using namespace rc;
  auto kind = gen::weightedElement<Step::Kind>({{4, Step::kWrite}, {4, Step::kRead}, {1, Step::kMove}});
  auto size = gen::map(gen::pair(gen::inRange(0, 17), gen::inRange(0u, 2u)), [](std::pair<int, uint32_t> p) { return (1u << p.first) + p.second; });
  return gen::construct<Step>(kind, gen::inRange(0, 2), size);
}

RC_GTEST_PROP(RealStreams, BytesComeOnceAndInOrderWhateverMoves, ()) {
  RC_ASSERT(hosts().ready);
  auto must = [](const std::string& what) { RC_ASSERT(hosts().ask(what) == "ok"); };
  must("client open");
  must("server open");
  uint32_t under_way[2] = {};  // by writer
  auto read = [&](int reader, uint32_t most) {
    uint32_t n = std::min(most, under_way[1 - reader]);
    if (n) must(std::string(kPrograms[reader]) + " read " + std::to_string(n));
    under_way[1 - reader] -= n;
  };
  auto steps = *rc::gen::container<std::vector<Step>>(step());
  RC_TAG(std::count_if(steps.begin(), steps.end(), [](const Step& s) { return s.kind == Step::kMove; }));
  for (const Step& s : steps) {
    std::string name = kPrograms[s.program];
    if (s.kind == Step::kMove) {
      must("move " + name + (s.size % 2 ? " b" : " a"));
    } else if (s.kind == Step::kRead) {
      read(s.program, s.size);
    } else if (uint32_t n = std::min(s.size, kMostUnderWay - under_way[s.program])) {
      must(name + " write " + std::to_string(n));
      under_way[s.program] += n;
    }
  }
  for (int program : {0, 1}) must(std::string(kPrograms[program]) + " finish");
  for (int program : {0, 1}) {
    read(program, kMostUnderWay);
    must(std::string(kPrograms[program]) + " end");
    must(std::string(kPrograms[program]) + " close");
  }
}

}  // namespace
