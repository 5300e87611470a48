// wrapped [--segment NAME] -- PROGRAM ARGS...
//
// Runs a program as a pod by the real supervisor and wrapper, but without a node: in a segment of its own, or in
// one that several pods of a test share (made by whoever comes first, removed by the test). Relays stdout and
// stderr, takes stdin, exits with the program's status. So a wrapped test needs no daemon and nothing shared.
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "tuplespace/shared/members.hh"
#include "wrapper/program_kind.hh"
#include "wrapper/relay.hh"
#include "wrapper/supervisor.hh"

using namespace godwit;
using namespace godwit::wrapper;

static int fail(const std::string& text) {
  fprintf(stderr, "wrapped: %s\n", text.c_str());
  return 125;
}

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (!words.empty() && words[0] == "supervise") return supervise_command({words.begin() + 1, words.end()});
  std::string name = "godwit-wrapped-" + std::to_string(getpid());
  bool own = true;
  size_t at = 0;
  if (words.size() > 2 && words[0] == "--segment") {
    name = words[1];
    own = false;
    at = 2;
  }
  if (at < words.size() && words[at] == "--") ++at;
  if (at >= words.size()) return fail("no program");
  PodSpec spec;
  spec.command.assign(words.begin() + static_cast<long>(at), words.end());
  Unmovable kind = program_kind(spec.command[0]);
  if (kind != Unmovable::kNone) spec.reason = unmovable_text(kind);
  shared::Segment segment;
  int e = shared::Segment::create(name.c_str(), 4ull << 30);
  if (e && e != -EEXIST) return fail("cannot make a segment");
  while ((e = shared::Segment::open(name.c_str(), &segment)) == -EAGAIN) usleep(1000);
  if (e) return fail("cannot open the segment");
  shared::Thread self;
  self.segment = segment;
  if (shared::claim_slot(self, segment.area_of(0))) return fail("no slot");
  PodPlace place{name, 0, static_cast<uint64_t>(getpid())};
  if (shared::add_pod(self, place.pod, &place.member)) return fail("no member");
  char directory[] = "/tmp/godwit-wrapped-XXXXXX";
  if (!mkdtemp(directory)) return fail("no directory");
  spec.name = "test";
  uint64_t mask;
  sigprocmask(SIG_BLOCK, nullptr, reinterpret_cast<sigset_t*>(&mask));
  auto started = start_supervisor(spec, directory, place, true, Arrival{}, mask);
  int status;
  if (!started) status = fail(started.error().message());
  else if (started->status) status = started->status, fprintf(stderr, "wrapped: %s\n", started->problem.c_str());
  else status = relay(std::move(started->channel), nullptr);
  shared::remove_pod(self, place.pod);
  remove_pod_directory(directory);
  if (own) unlink(("/dev/shm/" + name).c_str());
  return status;
}
