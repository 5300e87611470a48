// The program's standard streams, and the supervisor's half of the conversation with the foreground (conversation.hh), which
// moves with the pod. What must stay true: what the program wrote is in the log before it is said. A foreground on another
// host that is silent for kLease holds the program up no longer: it may have died with its host.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "wrapper/supervisor_parts.hh"

namespace godwit::wrapper {
namespace {

constexpr size_t kOutputBacklog = 512 << 10;  // bytes that the foreground has not heard before the program waits
constexpr size_t kInputBacklog = 64 << 10;
constexpr auto kLease = std::chrono::seconds(60);

// A pipe can be opened through either end.
UniqueFd other_end(const UniqueFd& end, int mode) {
  std::string path = "/proc/self/fd/" + std::to_string(end.get());
  return UniqueFd(::open(path.c_str(), mode | O_NONBLOCK | O_CLOEXEC));
}

}  // namespace

bool Supervisor::throttled() const { return console_.unheard() > kOutputBacklog && !foreground_silent(); }

bool Supervisor::foreground_silent() const { return !foreground_ && Clock::now() - heard_ >= kLease; }

// Until a foreground elsewhere counts as silent.
int Supervisor::patience() const {
  if (!console_.attached || foreground_ || foreground_silent()) return -1;
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(heard_ + kLease - Clock::now()).count());
}

void Supervisor::converse() {
  if (!asker_ || held_ || departed_ || !announced_) return;
  console_.heard(ask_.heard);
  bool taken = take_words();
  taken |= take_input();
  if (!taken && !console_.has_news(ask_)) return;
  queue(*asker_, FrameKind::kNews, encode(console_.news(ask_)));
  asker_ = nullptr;
}

bool Supervisor::take_words() {
  uint64_t before = console_.words_taken, number = ask_.word;
  FrameKind kind;
  std::string payload;
  while (take_frame(ask_.words, &kind, &payload) == 1) {
    if (number++ < console_.words_taken) continue;
    console_.words_taken++;
    if (kind == FrameKind::kSignal && payload.size() == 5) send_signal(unpack_i32(payload), payload[4]);
    if (kind == FrameKind::kCloseOutput && payload.size() == 1) close_output(payload[0] == 1 ? 0 : 1);
  }
  return console_.words_taken > before;
}

bool Supervisor::take_input() {
  uint64_t end = ask_.input_at + ask_.input.size();
  if (console_.input_taken < ask_.input_at || console_.input_taken > end) return false;
  size_t room = kInputBacklog - std::min(kInputBacklog, console_.input.size());
  std::string fresh = ask_.input.substr(console_.input_taken - ask_.input_at, room);
  console_.input += fresh;
  console_.input_taken += fresh.size();
  console_.input_ended |= ask_.input_ended && console_.input_taken == end;
  feed_input();
  return !fresh.empty();
}

void Supervisor::say(FrameKind kind, const std::string& payload) {
  if (!console_.attached) return;
  console_.say(frame(kind, payload));
  while (console_.unheard() > kOutputBacklog && foreground_silent()) console_.drop_oldest();
}

void Supervisor::tell_end() {
  if (!std::exchange(end_told_, true)) say(FrameKind::kExit, pack_i32(status_));
}

// A foreground `godwit run` that was killed leaves its pod running, detached.
void Supervisor::foreground_left() {
  if (console_.attached && !end_told_) detached_ = true;
  console_.leave();
}

void Supervisor::read_output(int stream) {
  UniqueFd& fd = pipes_.out_read[stream];
  char bytes[64 << 10];
  while (fd.valid()) {
    ssize_t n = ::read(fd.get(), bytes, sizeof bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      if (!pod_over_) return;
      n = 0;  // somebody outside the pod was given the writing end: not waited for
    }
    if (n <= 0) return fd.reset();
    (void)!::write(log_.get(), bytes, static_cast<size_t>(n));
    say(stream ? FrameKind::kError : FrameKind::kOutput, std::string(bytes, static_cast<size_t>(n)));
    if (!pod_over_ && !held_ && status_ < 0) return;  // in turn with everything else
  }
}

void Supervisor::feed_input() {
  std::string& input = console_.input;
  while (!input.empty() && pipes_.in_write.valid()) {
    ssize_t n = ::write(pipes_.in_write.get(), input.data(), std::min<size_t>(input.size(), 64 << 10));
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) {  // EPIPE: the program closed its stdin
      pipes_.in_write.reset();
      break;
    }
    input.erase(0, static_cast<size_t>(n));
  }
  if (!pipes_.in_write.valid()) input.clear();
  if (!console_.input_ended || !pipes_.in_write.valid()) return;
  pipes_.in_read = other_end(pipes_.in_write, O_RDONLY);  // for take_input_back()
  pipes_.in_write.reset();
}

void Supervisor::close_output(int stream) {
  console_.output_closed[stream] = true;
  pipes_.out_read[stream].reset();
}

// --- the pod on its way --------------------------------------------------------------------------------------

void Supervisor::hold(uint64_t pod, Client& client) {
  if (pod != plan_.place.pod) {
    client.dead = true;
    return;
  }
  held_ = true;
  for (int stream : {0, 1}) read_output(stream);
  take_input_back();
  queue(client, FrameKind::kHeld, encode(console_));
}

// What the program has not read; feed_input() gives it again.
void Supervisor::take_input_back() {
  if (pipes_.in_read.valid()) pipes_.in_write = other_end(pipes_.in_read, O_WRONLY);
  if (!pipes_.in_write.valid()) return;
  UniqueFd reader = other_end(pipes_.in_write, O_RDONLY);
  std::string unread;
  char bytes[64 << 10];
  for (ssize_t n; (n = ::read(reader.get(), bytes, sizeof bytes)) > 0;) unread.append(bytes, static_cast<size_t>(n));
  console_.input.insert(0, unread);
}

void Supervisor::take(const std::string& held, Client& client) {
  auto console = decode_console(held);
  if (!console) {
    client.dead = true;
    return;
  }
  console_ = std::move(*console);
  detached_ = !console_.attached;
  heard_ = Clock::now();
  for (int stream : {0, 1})
    if (console_.output_closed[stream]) close_output(stream);
  feed_input();
  queue(client, FrameKind::kTaken, "");
}

}  // namespace godwit::wrapper
