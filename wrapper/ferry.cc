#include "wrapper/ferry.hh"

#include <sys/random.h>
#include <sys/socket.h>

#include "wrapper/conversation.hh"

namespace godwit {

using namespace wrapper;

namespace {

constexpr const char* kName = "ferry.sock";
constexpr auto kAnswerPatience = std::chrono::seconds(30);  // a foreground asks again sooner
constexpr auto kTryAgain = std::chrono::milliseconds(100);

uint64_t a_random_number() {
  uint64_t number = 0;
  (void)!::getrandom(&number, sizeof number, 0);
  return number >> 1;
}

}  // namespace

Ferry::Ferry(Node& node) : node_(node), next_(a_random_number()) {}

Result<Starter> board_as_starter(const Home& home) {
  auto place = connect_in(home.path(), kName);
  if (!place) return place.error();
  timeval patience{std::chrono::seconds(kAnswerPatience).count(), 0};
  ::setsockopt(place->get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (auto sent = send_frame(place->get(), FrameKind::kStart, ""); !sent) return sent.error();
  auto answer = receive_frame(place->get());
  if (!answer) return answer.error();
  return Starter{std::move(*place), unpack_u64(answer->payload)};
}

UniqueFd ride(const Home& home, uint64_t pod) {
  auto fd = connect_in(home.path(), kName);
  if (!fd || !send_frame(fd->get(), FrameKind::kFollow, pack_u64(pod))) return {};
  return std::move(*fd);
}

Ferry::~Ferry() {
  if (listening_.valid()) node_.loop().remove_fd(listening_.get());
  for (auto& [id, passenger] : passengers_) node_.loop().remove_fd(passenger.fd.get());
}

Result<void> Ferry::listen() {
  auto fd = listen_in(node_.home().path(), kName);
  if (!fd) return fd.error();
  listening_ = std::move(*fd);
  return node_.loop().add_fd(listening_.get(), EPOLLIN, [this](uint32_t) { board(); });
}

void Ferry::board() {
  UniqueFd fd(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid()) return;
  uint64_t id = next_++;
  if (!node_.loop().add_fd(fd.get(), EPOLLIN, [this, id](uint32_t events) { serve(id, events); })) return;
  passengers_[id].fd = std::move(fd);
}

void Ferry::serve(uint64_t id, uint32_t events) {
  Passenger& passenger = passengers_.at(id);
  if (events & EPOLLOUT) flush(passenger);
  if ((events & ~EPOLLOUT) && !read(id, passenger)) leave(id);
}

bool Ferry::read(uint64_t id, Passenger& passenger) {
  char bytes[64 << 10];
  ssize_t n = ::recv(passenger.fd.get(), bytes, sizeof bytes, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (n <= 0) return false;
  passenger.in.append(bytes, static_cast<size_t>(n));
  FrameKind kind;
  std::string payload;
  int taken;
  while ((taken = take_frame(passenger.in, &kind, &payload)) == 1) {
    if (kind == FrameKind::kFollow) passenger.pod = unpack_u64(payload);
    if (kind == FrameKind::kStart) {
      passenger.starter = true;
      tell(id, FrameKind::kStart, pack_u64(id));
    }
    if (kind != FrameKind::kAsk) continue;
    passenger.asked = serial_of(payload);
    ask(id, payload);
  }
  return taken == 0;
}

const PodEntry* Ferry::pod_of(uint64_t id) const {
  auto found = passengers_.find(id);
  return found == passengers_.end() ? nullptr : node_.directory().pod(found->second.pod);
}

// While the pod is on its way, or its host's node is away, the latest ask is made again.
void Ferry::ask(uint64_t id, const std::string& what) {
  auto found = passengers_.find(id);
  if (found == passengers_.end() || found->second.asked != serial_of(what)) return;
  const PodEntry* pod = pod_of(id);
  if (!pod) return tell(id, FrameKind::kGone, "");
  node_.call(pod->host, "pod.ask", pack_map("pod", pod->id, "ask", Bin{what}), [this, id, what](godwit::Answer answer) {
    Bin news;
    if (answer && decode(answer->get(), news)) return tell(id, FrameKind::kNews, std::string(news.data));
    node_.loop().after(kTryAgain, [this, id, what] { ask(id, what); });
  }, in_time(kAnswerPatience));
}

void Ferry::tell(uint64_t id, FrameKind kind, const std::string& payload) {
  auto found = passengers_.find(id);
  if (found == passengers_.end()) return;
  found->second.out += frame(kind, payload);
  flush(found->second);
}

void Ferry::flush(Passenger& passenger) {
  while (!passenger.out.empty()) {
    ssize_t n = ::send(passenger.fd.get(), passenger.out.data(), passenger.out.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    passenger.out.erase(0, static_cast<size_t>(n));
  }
  (void)node_.loop().set_events(passenger.fd.get(), passenger.out.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

void Ferry::leave(uint64_t id) {
  if (const PodEntry* pod = pod_of(id))
    node_.call(pod->host, "pod.left", pack_map("pod", pod->id), [](godwit::Answer) {}, in_time(kAnswerPatience));
  node_.loop().remove_fd(passengers_.at(id).fd.get());
  if (passengers_.extract(id).mapped().starter) starter_gone_(id);
}

}  // namespace godwit
