// What a move asks of the pods of a host, by way of their supervisors.
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "wrapper/control_channel.hh"
#include "wrapper/service.hh"
#include "wrapper/supervisor.hh"
#include "wrapper/supervisor_facts.hh"

namespace godwit {

using namespace wrapper;

namespace {

struct Found {
  UniqueFd channel;
  SupervisorFacts facts;
};

Error not_here() { return make_error(std::errc::no_such_process, "the pod is not on this host"); }

Result<Found> find_supervisor(const Home& home, uint64_t pod) {
  for (const std::string& name : home.pod_folders()) {
    auto channel = connect_control(home.file("pods/" + name));
    if (!channel) continue;
    timeval patience{2, 0};
    ::setsockopt(channel->get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    auto facts = ask_facts(channel->get());
    if (facts && facts->number("pod") == pod) return Found{std::move(*channel), std::move(*facts)};
  }
  return not_here();
}

// The restoree was made with the program's ends of the supervisor's pipes as its standard streams.
Result<void> copy_stdio(int pid, std::array<UniqueFd, 3>& stdio) {
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  for (int fd = 0; fd < 3; ++fd) {
    stdio[static_cast<size_t>(fd)] = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
    if (!stdio[static_cast<size_t>(fd)].valid()) return errno_error("take the pod's standard streams");
  }
  return {};
}

}  // namespace

Result<RunningPod> PodMaker::find(uint64_t pod) {
  auto found = find_supervisor(node_.home(), pod);
  if (!found) return found.error();
  RunningPod running;
  running.pid = static_cast<int>(found->facts.number("program_pid"));
  running.spec = format_spec(found->facts.spec);
  running.reason = found->facts.spec.reason;
  return running;
}

Result<MadePod> PodMaker::make(const PodToMake& what) {
  auto spec = parse_spec(what.spec);
  if (!spec) return spec.error();
  auto directory = claim_pod_directory(spec->name, spec->command.empty() ? "pod" : spec->command[0]);
  if (!directory) return directory.error();
  Arrival arrival;
  arrival.program = static_cast<pid_t>(what.pid);
  arrival.monotonic_offset = what.monotonic_shift_ns;
  arrival.boottime_offset = what.boottime_shift_ns;
  auto started = start_supervisor(*spec, *directory, PodPlace{what.segment, what.member, what.pod}, false, arrival, 0);
  if (!started) return started.error();
  if (!started->problem.empty()) return make_error(std::errc::io_error, "make the pod on the target: " + started->problem);
  auto facts = parse_facts(started->facts);
  if (!facts) return facts.error();
  MadePod made;
  made.pid = static_cast<int>(facts->number("program_pid"));
  made.control = std::move(started->restoree);
  made.control_there = static_cast<int>(facts->number("restoree"));
  if (auto copied = copy_stdio(made.pid, made.stdio); !copied) return copied.error();
  node_.loop().post([this, name = spec->name] { (void)pod_service(node_).watch(name); });
  return made;
}

void PodMaker::departed(uint64_t pod, const std::string& host) {
  auto found = find_supervisor(node_.home(), pod);
  if (found) (void)send_frame(found->channel.get(), FrameKind::kDeparted, host);
}

// Returns when nothing of it is left, so that its name and place can be used again.
void PodMaker::discard(uint64_t pod) {
  auto found = find_supervisor(node_.home(), pod);
  if (!found || !send_frame(found->channel.get(), FrameKind::kEnd, "")) return;
  while (receive_frame(found->channel.get())) {
  }
}

}  // namespace godwit
