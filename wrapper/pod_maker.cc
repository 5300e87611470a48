// What a move asks of the pods of a host, by way of their supervisors.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tuplespace/posix/file.hh"
#include "wrapper/control_channel.hh"
#include "wrapper/service.hh"
#include "wrapper/supervisor.hh"
#include "wrapper/supervisor_facts.hh"

namespace godwit {

using namespace wrapper;

namespace {

constexpr size_t kLogPiece = 1 << 20;

struct Found {
  UniqueFd channel;
  SupervisorFacts facts;
};

Error not_here() { return make_error(std::errc::no_such_process, "the pod is not on this host"); }

// A conversation whose answers are waited for as long as a move can bear.
Result<UniqueFd> connect_supervisor(const std::string& directory) {
  auto channel = connect_control(directory);
  if (!channel) return channel.error();
  timeval patience{2, 0};
  ::setsockopt(channel->get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return std::move(*channel);
}

Result<Found> find_supervisor(const Home& home, uint64_t pod) {
  for (const std::string& name : home.pod_folders()) {
    auto channel = connect_supervisor(home.file("pods/" + name));
    if (!channel) continue;
    auto facts = ask_facts(channel->get());
    if (facts && facts->number("pod") == pod) return Found{std::move(*channel), std::move(*facts)};
  }
  return not_here();
}

Result<std::string> converse(const std::string& directory, FrameKind kind, const std::string& payload, FrameKind expected) {
  auto channel = connect_supervisor(directory);
  if (!channel) return channel.error();
  if (auto sent = send_frame(channel->get(), kind, payload); !sent) return sent.error();
  auto answer = receive_frame(channel->get());
  if (!answer) return answer.error();
  if (answer->kind != expected) return make_error(std::errc::protocol_error, "the supervisor's answer");
  return std::move(answer->payload);
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
  auto directory = claim_pod_directory(node_.home().file("pods"), spec->name);
  if (!directory) return directory.error();
  std::string log = pod_service(node_).arriving_log(what.pod);
  if (::rename(log.c_str(), (*directory + "/log").c_str()) != 0) return errno_error("take the pod's log over");
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

Result<LogPiece> PodMaker::log(const std::string& name, uint64_t offset) {
  std::string path = pod_service(node_).directory_of(name) + "/log";
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  LogPiece piece{std::string(kLogPiece, 0), 0};
  ssize_t n = file.valid() ? ::pread(file.get(), piece.bytes.data(), kLogPiece, static_cast<off_t>(offset)) : -1;
  off_t size = n < 0 ? -1 : ::lseek(file.get(), 0, SEEK_END);
  if (size < 0) return errno_error("read " + path);
  piece.bytes.resize(static_cast<size_t>(n));
  piece.size = static_cast<uint64_t>(size);
  return piece;
}

// By name, not by looking at all: the program stands still.
Result<std::string> PodMaker::hold(uint64_t pod, const std::string& name, uint64_t log_from) {
  auto console = converse(pod_service(node_).directory_of(name), FrameKind::kHold, pack_u64(pod), FrameKind::kHeld);
  if (!console) return console.error();
  std::string rest;
  for (;;) {
    auto piece = log(name, log_from + rest.size());
    if (!piece) return piece.error();
    rest += piece->bytes;
    if (log_from + rest.size() >= piece->size) return pack_map("console", Bin{*console}, "log", Bin{rest});
  }
}

void PodMaker::release(const std::string& name) {
  if (auto channel = connect_control(pod_service(node_).directory_of(name)))
    (void)send_frame(channel->get(), FrameKind::kRelease, "");
}

Result<void> PodMaker::take(const std::string& name, std::string_view held) {
  auto object = unpack(held);
  if (!object) return object.error();
  Bin console, rest;
  if (auto bad = Fields(object->get()).need("console", console, "log", rest)) return *bad;
  std::string directory = pod_service(node_).directory_of(name);
  UniqueFd file(::open((directory + "/log").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
  if (!file.valid()) return errno_error("open the pod's log");
  if (auto written = write_all(file.get(), rest.data); !written) return written;
  auto taken = converse(directory, FrameKind::kTake, std::string(console.data), FrameKind::kTaken);
  return taken ? Result<void>() : taken.error();
}

void PodMaker::departed(uint64_t pod) {
  auto found = find_supervisor(node_.home(), pod);
  if (found) (void)send_frame(found->channel.get(), FrameKind::kDeparted, "");
}

// Returns when nothing of it is left, so that its name and place can be used again.
void PodMaker::discard(uint64_t pod) {
  auto found = find_supervisor(node_.home(), pod);
  if (!found || !send_frame(found->channel.get(), FrameKind::kDeparted, "")) return;
  if (!send_frame(found->channel.get(), FrameKind::kEnd, "")) return;
  while (receive_frame(found->channel.get())) {
  }
}

}  // namespace godwit
