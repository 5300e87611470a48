#include "tuplespace/streams/carrier.hh"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>

namespace godwit {
namespace {

constexpr size_t kBatchFrames = 64;
constexpr size_t kReadBuffer = 512 << 10;

void set_no_delay(int fd) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

}  // namespace

// Frames gathered for one sendmsg: headers of our own, bytes straight from the rings.
struct Carrier::Batch {
  FrameHeader headers[kBatchFrames];
  iovec pieces[3 * kBatchFrames];
  size_t frames = 0, count = 0, bytes = 0;

  void add(const void* p, size_t n) {
    if (n == 0) return;
    pieces[count++] = iovec{const_cast<void*>(p), n};
    bytes += n;
  }
  // What the kernel did not take, copied, because the rings move on.
  std::string rest(size_t taken) const {
    std::string out;
    out.reserve(bytes - taken);
    for (size_t i = 0; i < count; ++i) {
      size_t skip = std::min(taken, pieces[i].iov_len);
      taken -= skip;
      out.append(static_cast<const char*>(pieces[i].iov_base) + skip, pieces[i].iov_len - skip);
    }
    return out;
  }
};

Carrier::Carrier(Loop& loop, std::function<void()> up, std::function<void()> down)
    : loop_(loop), up_(std::move(up)), down_(std::move(down)) {
  prepare_id_ = loop_.add_prepare([this] {
    if (is_up() && !wants_room_ && (!pending_.empty() || !active_.empty())) pump();
    return false;  // what is left waits for room
  });
}

Carrier::~Carrier() {
  loop_.remove_prepare(prepare_id_);
  if (is_up()) loop_.remove_fd(socket_.get());
}

void Carrier::connected(UniqueFd socket) {
  if (is_up()) loop_.remove_fd(socket_.get());
  socket_ = std::move(socket);
  set_no_delay(socket_.get());
  pending_.clear();
  written_ = 0;
  wants_room_ = false;
  if (!loop_.add_fd(socket_.get(), EPOLLIN | EPOLLRDHUP, [this](uint32_t e) { on_event(e); })) return broken();
  up_();
}

void Carrier::send(const FrameHeader& header, std::string_view payload) {
  if (!is_up()) return;
  FrameHeader whole = header;
  whole.length = static_cast<uint32_t>(payload.size());
  pending_.append(reinterpret_cast<const char*>(&whole), sizeof whole);
  pending_.append(payload);
}

void Carrier::activate(FrameSource& source) {
  if (std::find(active_.begin(), active_.end(), &source) == active_.end()) active_.push_back(&source);
}

void Carrier::forget(FrameSource& source) { std::erase(active_, &source); }

// Writes pending_. returns false when the kernel has no room or the connection broke.
bool Carrier::flush() {
  while (written_ < pending_.size()) {
    ssize_t n = ::send(socket_.get(), pending_.data() + written_, pending_.size() - written_,
                       MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) {
        broken();
        return false;
      }
      wants_room_ = true;
      (void)loop_.set_events(socket_.get(), EPOLLIN | EPOLLRDHUP | EPOLLOUT);
      return false;
    }
    written_ += static_cast<size_t>(n);
  }
  pending_.clear();
  written_ = 0;
  return true;
}

void Carrier::pump() {
  while (is_up() && flush()) {
    Batch batch;
    // Round robin: a source gives one frame a turn, and leaves when it has none.
    while (batch.frames < kBatchFrames && !active_.empty()) {
      size_t before = batch.frames;
      for (size_t i = 0; i < active_.size() && batch.frames < kBatchFrames;) {
        FrameHeader& header = batch.headers[batch.frames];
        std::string_view parts[2];
        if (!active_[i]->next(&header, parts)) {
          active_.erase(active_.begin() + static_cast<ptrdiff_t>(i));
          continue;
        }
        header.length = static_cast<uint32_t>(parts[0].size() + parts[1].size());
        batch.frames++;
        batch.add(&header, sizeof header);
        for (std::string_view part : parts) batch.add(part.data(), part.size());
        ++i;
      }
      if (batch.frames == before) break;
    }
    if (batch.frames == 0) {
      if (pending_.empty()) return;
      continue;  // a source that had no more bytes may have said so in a frame
    }
    msghdr message{};
    message.msg_iov = batch.pieces;
    message.msg_iovlen = batch.count;
    ssize_t n = sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) return broken();
    size_t taken = n < 0 ? 0 : static_cast<size_t>(n);
    // In front of control frames that sources have queued meanwhile.
    if (taken < batch.bytes) pending_.insert(0, batch.rest(taken));
  }
}

void Carrier::on_event(uint32_t events) {
  if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) return broken();
  if (events & EPOLLOUT) {
    wants_room_ = false;
    (void)loop_.set_events(socket_.get(), EPOLLIN | EPOLLRDHUP);
    pump();
  }
}

void Carrier::broken() {
  if (!is_up()) return;
  loop_.remove_fd(socket_.get());
  socket_.reset();
  pending_.clear();
  active_.clear();
  down_();
}

CarrierReader::CarrierReader(Loop& loop, UniqueFd socket, OnFrame on_frame, std::function<void()> on_end)
    : loop_(loop), socket_(std::move(socket)), on_frame_(std::move(on_frame)), on_end_(std::move(on_end)),
      buffer_(kReadBuffer) {
  set_no_delay(socket_.get());
  (void)loop_.add_fd(socket_.get(), EPOLLIN | EPOLLRDHUP, [this](uint32_t) { on_event(); });
}

CarrierReader::~CarrierReader() {
  *alive_ = false;
  loop_.remove_fd(socket_.get());
}

void CarrierReader::on_event() {
  if (buffer_.size() - end_ < kMaxPayload) {
    memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  ssize_t n = recv(socket_.get(), buffer_.data() + end_, buffer_.size() - end_, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n > 0) {
    end_ += static_cast<size_t>(n);
    if (parse()) return;
    if (n > 0 && !*alive_) return;
  }
  on_end_();  // destroys this
}

// returns false when what came is no frame: the connection ends.
bool CarrierReader::parse() {
  auto alive = alive_;
  while (end_ - begin_ >= sizeof(FrameHeader)) {
    FrameHeader header;
    memcpy(&header, buffer_.data() + begin_, sizeof header);
    if (header.length > kMaxPayload || header.ring > 1) return false;
    if (end_ - begin_ < sizeof header + header.length) break;
    std::string_view payload(buffer_.data() + begin_ + sizeof header, header.length);
    begin_ += sizeof header + header.length;
    on_frame_(header, payload);
    if (!*alive) return true;
  }
  if (begin_ == end_) begin_ = end_ = 0;
  return true;
}

}  // namespace godwit
