// What cannot be moved is said so, with the reason, and is left alone.
#include <fstream>

#include <signal.h>
#include <unistd.h>

#include "harness.hh"

namespace godwit::migrate::test {

namespace {
std::string refusal_of(Pod& pod) {
  auto moved = move_once(pod);
  return moved ? "moved" : moved.error().what;
}
Pod python(const std::string& code) { return Pod({"/usr/bin/python3", "-u", "-c", code}); }
constexpr const char* kTail = "\nimport time\nn = 0\nwhile True:\n  n += 1\n  print('round', n)\n  time.sleep(0.01)\n";
}  // namespace

struct Case {
  const char* name;
  const char* code;
  const char* reason;
};

class Refusal : public testing::TestWithParam<Case> {};

TEST_P(Refusal, NamesTheReason) {
  Pod pod = python(GetParam().code + std::string(kTail));
  ASSERT_TRUE(pod.lines("round"));
  EXPECT_NE(refusal_of(pod).find(GetParam().reason), std::string::npos) << refusal_of(pod);
  EXPECT_TRUE(pod.lines("round")) << "it must go on";
}

INSTANTIATE_TEST_SUITE_P(
    Of, Refusal,
    testing::Values(Case{"InetSocket", "import socket\ns = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()", "is a TCP socket of the real network"},
                    Case{"Child", "import os\nif os.fork() == 0:\n  import signal\n  signal.pause()", "child processes"},
                    Case{"Orphan", "import os\nif os.fork() == 0:\n  if os.fork() == 0:\n    import signal\n    signal.pause()\n  os._exit(0)\nos.wait()", "child processes"},
                    Case{"Pipe", "import os\nr, w = os.pipe(); os.close(w)", "leads out of the pod"},
                    Case{"SharedFile", "import mmap, tempfile\nf = tempfile.NamedTemporaryFile(); f.truncate(4096)\nm = mmap.mmap(f.fileno(), 4096)", "shared file mapping"},
                    Case{"DeletedFile", "import os, tempfile\nf = tempfile.TemporaryFile()", "is a deleted file"},
                    Case{"FileLock", "import fcntl, tempfile\nf = tempfile.NamedTemporaryFile(); fcntl.flock(f, fcntl.LOCK_EX)", "file lock"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Refusal, OfAStoppedProgram) {
  Pod pod({victim_path(), "counter"});
  ASSERT_TRUE(pod.lines("round"));
  ::kill(pod.pid(), SIGSTOP);
  auto is_stopped = [&] {  // the signal takes effect in its own time
    std::ifstream status("/proc/" + std::to_string(pod.pid()) + "/status");
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("State:")) return line.find('T') != std::string::npos;
    return false;
  };
  ASSERT_TRUE(eventually(is_stopped));
  EXPECT_NE(refusal_of(pod).find("stopped"), std::string::npos);
  ::kill(pod.pid(), SIGCONT);
  EXPECT_TRUE(pod.lines("round"));
}

TEST(Refusal, OfAnotherKernelWithoutAProxyVdso) {
  Pod pod({victim_path(), "counter"}, {.proxy_vdso = false});
  ASSERT_TRUE(pod.lines("round"));
  MoveOptions options;
  options.foreign_vdso = true;
  auto moved = move_once(pod, options);
  ASSERT_FALSE(moved);
  EXPECT_NE(moved.error().what.find("proxy vdso"), std::string::npos) << moved.error().message();
  EXPECT_TRUE(pod.lines("round"));
  EXPECT_TRUE(move(pod)) << "the same kernel is no obstacle";
  EXPECT_TRUE(pod.lines("round"));
}

}  // namespace godwit::migrate::test
