// A program with a wrapper's Control: sections, pieces and placeholders over a move.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "harness.hh"
#include "migrate/adopt.hh"
#include "tuplespace/fault.hh"

namespace godwit::migrate::test {

namespace {

// The segment files of two hosts.
class Hosts {
 public:
  Hosts() {
    char name[] = "/dev/shm/godwit-test.XXXXXX";
    directory_ = ::mkdtemp(name);
    for (int i = 0; i < 2; ++i) {
      segments_[i].reset(::open(path(i).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
      GODWIT_CHECK(::ftruncate(segments_[i].get(), 1 << 20) == 0);
    }
  }
  ~Hosts() {
    for (int i = 0; i < 2; ++i) ::unlink(path(i).c_str());
    ::rmdir(directory_.c_str());
  }
  std::string path(int host) const { return directory_ + "/" + std::to_string(host); }
  int segment(int host) const { return segments_[host].get(); }

 private:
  std::string directory_;
  UniqueFd segments_[2];
};

}  // namespace

TEST(Wrapped, KeepsItsPiecesAndSections) {
  Hosts hosts;
  Pod pod({WRAPPED_VICTIM_PATH, hosts.path(0)});
  std::string first = pod.line(in_seconds(10));
  ASSERT_TRUE(first.starts_with("control ")) << first;
  MoveOptions options;
  options.control = std::strtoull(first.c_str() + 8, nullptr, 16);
  ASSERT_TRUE(pod.lines("round"));
  UniqueFd bell;
  for (int i = 0, at = 0; i < 20; ++i) {
    const int to = 1 - at;
    options.abort = i % 4 == 3;
    std::vector<std::pair<uint64_t, uint64_t>> placed;  // offset there, offset here
    UniqueFd new_bell;
    options.host = [&](ArrivalHost& host) {
      host.segment = hosts.segment(to);
      host.place = [&, i](const ControlPiece& p) -> Result<uint64_t> {
        uint64_t offset = (p.offset + 65536u * (1 + static_cast<unsigned>(i) % 3)) % (1 << 19) + 4096;
        placed.emplace_back(p.offset, offset);
        return offset;
      };
      host.placeholder = [&](uint32_t, Role role, uint32_t piece, const ControlPiece&) -> Result<UniqueFd> {
        EXPECT_EQ(role, Role::kSocket);
        EXPECT_EQ(piece, 2u);
        int ends[2];
        GODWIT_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        new_bell.reset(ends[0]);
        return UniqueFd(ends[1]);
      };
    };
    options.carry = [&](Arrival&) {
      for (auto& [from, there] : placed) {
        char bytes[8192];
        GODWIT_CHECK(::pread(hosts.segment(at), bytes, sizeof bytes, static_cast<off_t>(from)) == sizeof bytes);
        GODWIT_CHECK(::pwrite(hosts.segment(to), bytes, sizeof bytes, static_cast<off_t>(there)) == sizeof bytes);
      }
    };
    auto moved = move(pod, options);
    ASSERT_TRUE(moved) << i << ": " << moved.error().message() << "; " << pod.fate();
    ASSERT_TRUE(pod.lines("round")) << "after move " << i;
    if (options.abort) continue;
    at = to;
    bell = std::move(new_bell);
    ASSERT_EQ(::write(bell.get(), "b", 1), 1);
    ASSERT_TRUE(pod.lines("bell", 1));
  }
}

TEST(Wrapped, GoesOnAfterItsEngineDiedWithTheSectionsParked) {
  Hosts hosts;
  Pod pod({WRAPPED_VICTIM_PATH, hosts.path(0)});
  uint64_t control = std::strtoull(pod.line(in_seconds(10)).c_str() + 8, nullptr, 16);
  ASSERT_TRUE(pod.lines("round"));
  pid_t engine = ::fork();
  if (engine == 0) {
    fault_in_force().set("move.source.frozen");
    auto d = Departure::open(pod.pid(), control);
    if (d && (*d)->survey()) (void)(*d)->freeze(in_seconds(10));
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(engine, &status, 0), engine);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_TRUE(eventually([&] { return is_left_behind(pod.pid()); }));
  ASSERT_TRUE(adopt_and_continue(pod.pid(), control));
  EXPECT_TRUE(pod.lines("round"));
}

TEST(Unprivileged, UserMovesAProgram) {
  char folder[] = "/tmp/godwit-victim-XXXXXX";  // the build may be in a folder of root's
  ASSERT_NE(::mkdtemp(folder), nullptr);
  ASSERT_EQ(::chmod(folder, 0755), 0);
  std::string victim = std::string(folder) + "/victim";
  std::filesystem::copy_file(victim_path(), victim);
  pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0) GODWIT_CHECK(::setresgid(65534, 65534, 65534) == 0 && ::setresuid(65534, 65534, 65534) == 0);
    ::prctl(PR_SET_DUMPABLE, 1);
    bool good = true;
    {
      Pod pod({victim, "counter", "pipes", "clocks", "polling"});
      good = good && pod.lines("round");
      for (int i = 0; i < 5 && good; ++i) {
        MoveOptions options;
        options.abort = i == 2;
        auto moved = move(pod, options);
        if (!moved) std::fprintf(stderr, "%s\n", moved.error().message().c_str());
        good = moved.has_value() && pod.lines("round");
      }
    }
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  std::filesystem::remove_all(folder);
  EXPECT_EQ(status, 0);
}

}  // namespace godwit::migrate::test
