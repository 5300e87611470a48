#include "migrate/move_channel.hh"

#include <poll.h>

#include <algorithm>

namespace godwit::migrate {
namespace {

// A peer that takes nothing for this long is as good as gone.
constexpr auto kSendPatience = std::chrono::seconds(10);
constexpr auto kSilence = std::chrono::seconds(10);
constexpr auto kCutLook = std::chrono::milliseconds(200);

Error given_up() { return make_error(std::errc::operation_canceled, "the move has been given up"); }

}  // namespace

Result<std::unique_ptr<MoveChannel>> MoveChannel::listen(Transport& transport, const std::string& address,
                                                         std::string* endpoint) {
  auto socket = transport.router(Transport::Security::kCurve);
  if (!socket) return socket.error();
  auto bound = socket->bind(address);
  if (!bound) return bound.error();
  *endpoint = *bound;
  return std::unique_ptr<MoveChannel>(new MoveChannel(std::move(*socket), true));
}

Result<std::unique_ptr<MoveChannel>> MoveChannel::connect(Transport& transport, const std::string& endpoint) {
  auto socket = transport.dealer(Transport::Security::kCurve);
  if (!socket) return socket.error();
  if (auto connected = socket->connect(endpoint); !connected) return connected.error();
  return std::unique_ptr<MoveChannel>(new MoveChannel(std::move(*socket), false));
}

Result<void> MoveChannel::send(std::string message) {
  if (router_ && peer_.empty()) return make_error(std::errc::not_connected, "send to the other host of the move");
  Frames frames;
  if (router_) frames.push_back(peer_);
  frames.push_back(std::move(message));
  auto deadline = Clock::now() + kSendPatience;
  while (!socket_.send(frames)) {
    if (cut_) return given_up();
    if (Clock::now() > deadline) return make_error(std::errc::timed_out, "send to the other host of the move");
    // The queue is full: its descriptor tells when that may have changed.
    pollfd waiting{socket_.fd(), POLLIN, 0};
    poll(&waiting, 1, 1);
  }
  return {};
}

Result<std::string> MoveChannel::receive(Deadline deadline) {
  deadline = std::min(deadline, Clock::now() + kSilence);
  for (;;) {
    auto frames = socket_.receive(std::min(deadline, Clock::now() + kCutLook));
    if (cut_) return given_up();
    if (!frames && Clock::now() < deadline) continue;
    if (!frames) return make_error(std::errc::timed_out, "hear from the other host of the move");
    if (frames->size() != (router_ ? 2 : 1)) continue;
    if (router_ && peer_.empty()) peer_ = frames->front();
    if (router_ && frames->front() != peer_) continue;
    return std::move(frames->back());
  }
}

}  // namespace godwit::migrate
