// Who talks to the supervisor at pods/NAME/control: frames in, frames out. What must stay true: nobody is waited for, but in
// finish_clients(), and there for a few seconds.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstring>

#include "wrapper/supervisor_parts.hh"

namespace godwit::wrapper {

void Supervisor::accept_client() {
  int fd = ::accept4(control_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  clients_.emplace_back();
  clients_.back().fd.reset(fd);
}

void Supervisor::read_client(Client& client) {
  char bytes[64 << 10];
  ssize_t n = ::recv(client.fd.get(), bytes, sizeof bytes, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    client.dead = true;
    return;
  }
  client.in.append(bytes, static_cast<size_t>(n));
  FrameKind kind;
  std::string payload;
  int taken;
  while (!client.dead && (taken = take_frame(client.in, &kind, &payload)) == 1) handle(client, kind, payload);
  if (!client.dead && taken < 0) client.dead = true;
}

void Supervisor::handle(Client& client, FrameKind kind, const std::string& payload) {
  switch (kind) {
    case FrameKind::kFacts: return queue(client, FrameKind::kFactsReply, facts());
    case FrameKind::kSignal:
      if (payload.size() < 4) break;
      return send_signal(unpack_i32(payload), payload.size() > 4 && payload[4]);
    case FrameKind::kAsk: {
      auto ask = decode_ask(payload);
      if (!ask) break;
      if (ask->serial < ask_.serial) return;  // late: it was made again since
      ask_ = std::move(*ask);
      asker_ = &client;
      heard_ = Clock::now();
      return;
    }
    case FrameKind::kLeft: return foreground_left();
    case FrameKind::kHold: return hold(unpack_u64(payload), client);
    case FrameKind::kRelease:
      held_ = false;
      return feed_input();
    case FrameKind::kTake: return take(payload, client);
    case FrameKind::kEnd:
      ::kill(init_, SIGKILL);
      return;
    case FrameKind::kDeparted:
      departed_ = true;
      return;
    default: break;
  }
  client.dead = true;  // not a word of this language
}

void Supervisor::queue(Client& client, FrameKind kind, const std::string& payload) { client.out += frame(kind, payload); }

void Supervisor::flush(Client& client) {
  while (!client.out.empty()) {
    iovec part{client.out.data(), client.out.size()};
    alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (client.pass.valid()) {
      message.msg_control = space;
      message.msg_controllen = sizeof space;
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      int fd = client.pass.get();
      memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    ssize_t n = ::sendmsg(client.fd.get(), &message, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN && !done_) return;
    if (n < 0) {
      client.dead = true;
      return;
    }
    client.pass.reset();
    client.out.erase(0, static_cast<size_t>(n));
  }
  if (client.closing) client.dead = true;
}

void Supervisor::forget_dead() {
  for (const Client& client : clients_) {
    if (!client.dead) continue;
    if (&client == asker_) asker_ = nullptr;
    if (&client != foreground_) continue;
    foreground_ = nullptr;
    foreground_left();
  }
  clients_.remove_if([](const Client& c) { return c.dead; });
}

void Supervisor::finish_clients() {
  for (Client& client : clients_) {
    int flags = ::fcntl(client.fd.get(), F_GETFL);
    ::fcntl(client.fd.get(), F_SETFL, flags & ~O_NONBLOCK);
    timeval patience{5, 0};  // for a client that does not read
    ::setsockopt(client.fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    while (!client.dead && !client.out.empty()) flush(client);
  }
}

std::string Supervisor::facts() const {
  std::string text = format_spec(plan_.spec);
  auto add = [&](const char* key, uint64_t value) { text += std::string(key) + " " + std::to_string(value) + "\n"; };
  add("pod", plan_.place.pod);
  add("member", plan_.place.member);
  text += "segment " + percent_encode(plan_.place.segment) + "\n";
  add("init_pid", static_cast<uint64_t>(init_));
  add("program_pid", static_cast<uint64_t>(program_pid_));
  add("pid_namespace", namespace_);
  text += std::string("state ") + (plan_.init.program ? "arrived" : "running") + "\n";
  if (restoree_number_ >= 0) add("restoree", static_cast<uint64_t>(restoree_number_));
  if (status_ >= 0) add("status", static_cast<uint64_t>(status_));
  return text;
}

}  // namespace godwit::wrapper
