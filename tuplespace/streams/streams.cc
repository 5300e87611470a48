#include "tuplespace/streams/streams.hh"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <memory>

#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/members.hh"

namespace godwit {

using shared::Socket;
using shared::Watch;

namespace {

// An earlier node's set: whatever it watched must stop marking it before it is freed.
void forget_watches(shared::Segment segment, shared::Offset set) {
  shared::for_each_run(segment, [&](shared::Offset offset, const shared::Chunk& chunk) {
    if (chunk.kind != shared::RunKind::kSocket) return;
    for (shared::End& end : segment.at<Socket>(offset)->ends)
      for (auto& watch : end.watches)
        if (Watch w = watch.load(); w && shared::watch_set(w) == set) shared::remove_watch(end, w);
  });
}

void free_old_sets(shared::Thread& self) {
  std::vector<shared::Offset> old;
  shared::for_each_run(self.segment, [&](shared::Offset offset, const shared::Chunk& chunk) {
    if (chunk.kind == shared::RunKind::kSet && chunk.pod == kNodePod) old.push_back(offset);
  });
  for (shared::Offset set : old) {
    forget_watches(self.segment, set);
    shared::intend(self, set);
    shared::free_intent(self);
  }
}

// All but `leave`.
void eat_bells(int placeholder, int leave) {
  char bells[512];
  int unread = 0;
  if (ioctl(placeholder, SIOCINQ, &unread) != 0) return;
  for (int left = unread - leave; left > 0;) {
    ssize_t n = recv(placeholder, bells, std::min(sizeof bells, static_cast<size_t>(left)), MSG_DONTWAIT);
    if (n <= 0) return;
    left -= static_cast<int>(n);
  }
}

}  // namespace

Result<std::unique_ptr<Streams>> Streams::create(Loop& loop, shared::Segment segment) {
  std::unique_ptr<Streams> streams(new Streams(loop, segment));
  if (auto started = streams->start(); !started) return started.error();
  return streams;
}

Result<void> Streams::start() {
  self_.segment = segment_;
  if (int e = shared::claim_slot(self_, segment_.area_of(0)))
    return Error{std::error_code(-e, std::generic_category()), "join the segment"};
  shared::reap(self_);
  free_old_sets(self_);
  shared::Offset offset;
  if (int e = shared::allocate_set(self_, kNodePod, &offset))
    return Error{std::error_code(-e, std::generic_category()), "allocate the node's set"};
  shared::publish(self_);
  set_ = segment_.at<shared::Set>(offset);
  uses_.resize(1);  // index 0 stays unused, so that a watch is never 0
  prepare_id_ = loop_.add_prepare([this] { return serve_marked(); });
  loop_.watch_memory({[this] { return shared::any_marked(*set_); }, [this] { return arm(); }});
  return {};
}

Streams::~Streams() {
  if (prepare_id_) loop_.remove_prepare(prepare_id_);
  loop_.watch_memory({});
  for (Use& use : uses_) {
    if (!use.socket) continue;
    loop_.remove_fd(use.placeholder.get());
    shared::remove_watch(use.socket->ends[use.side], set_->offset | index_of_[key(*use.socket, use.side)]);
  }
  if (set_) {
    shared::intend(self_, set_->offset);
    shared::free_intent(self_);
  }
  if (self_.slot) shared::release_slot(self_);
}

bool Streams::lives_here(uint64_t pod) const {
  return pod == own_bridge(segment_) || shared::find_pod(segment_, pod) != 0;
}

Result<void> Streams::attach(Socket& socket, uint32_t side, UniqueFd placeholder, EndUser& user) {
  uint32_t index;
  if (free_.empty()) {
    index = static_cast<uint32_t>(uses_.size());
    if (index >= shared::kSetSize || shared::reserve_entry(*set_, index) != 0)
      return make_error(std::errc::too_many_files_open, "hold another connection");
    uses_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  set_->entries[index].events = EPOLLIN | EPOLLOUT | EPOLLRDHUP;
  constexpr uint32_t kEdges = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  auto added = loop_.add_fd(placeholder.get(), kEdges, [this, index](uint32_t e) { on_bell(index, e); });
  if (!added) {
    free_.push_back(index);
    return added;
  }
  uses_[index] = Use{&socket, side, std::move(placeholder), &user, false};
  index_of_[key(socket, side)] = index;
  shared::End& end = socket.ends[side];
  // Whoever slept at this end before is not here any more.
  end.sleeper.store(0);
  end.futex_sleepers.store(0);
  end.edge_sleepers.store(0);
  end.bells.store(0);
  end.read_lock.store(0);
  end.write_lock.store(0);
  end.watched.store(0);
  for (auto& watch : end.watches) watch.store(0);
  shared::add_watch(end, set_->offset | index);
  shared::full_fence();
  shared::mark(*set_, index);
  return {};
}

UniqueFd Streams::detach(Socket& socket, uint32_t side) {
  auto it = index_of_.find(key(socket, side));
  if (it == index_of_.end()) return UniqueFd();
  uint32_t index = it->second;
  index_of_.erase(it);
  Use use = std::move(uses_[index]);
  uses_[index] = Use{};
  loop_.remove_fd(use.placeholder.get());
  shared::remove_watch(socket.ends[side], set_->offset | index);
  set_->entries[index].events = 0;
  free_.push_back(index);
  return std::move(use.placeholder);
}

void Streams::keep_bells(Socket& socket, uint32_t side) {
  auto it = index_of_.find(key(socket, side));
  if (it == index_of_.end()) return;
  uses_[it->second].keep_bells = true;
  socket.ends[side].edge_sleepers.store(1);
}

int Streams::placeholder(Socket& socket, uint32_t side) const {
  auto it = index_of_.find(key(socket, side));
  return it == index_of_.end() ? -1 : uses_[it->second].placeholder.get();
}

void Streams::ring(Socket& socket, uint32_t side, uint32_t events) {
  shared::notify(self_, socket, 1 - side, events, placeholder(socket, side));
}

void Streams::free(Socket& socket) {
  // A program that closes its end at this moment may be the one to free it (shared::close_end).
  if (socket.state.exchange(shared::SocketState::kFree) != shared::SocketState::kFree) free_run(socket.offset);
}

void Streams::free_run(shared::Offset run) {
  shared::intend(self_, run);
  shared::free_intent(self_);
}

// Serves what is marked.
bool Streams::serve_marked() {
  set_->armed.fetch_and(~1u);
  bool worked = false;
  shared::harvest(*set_, [&](uint32_t index) {
    worked = true;
    // A copy of the pointer: look() may detach this very use.
    if (index < uses_.size() && uses_[index].user) uses_[index].user->look();
    return true;
  });
  return worked;
}

// From here on ringers wake us.
bool Streams::arm() {
  shared::arm(*set_);
  shared::full_fence();
  return shared::any_marked(*set_);
}

void Streams::on_bell(uint32_t index, uint32_t events) {
  Use& use = uses_[index];
  if (!use.socket) return;
  // Edges come for every bell; the bytes themselves are eaten before the queue can fill.
  shared::End& end = use.socket->ends[use.side];
  if (end.bells.load() >= 8) {
    end.bells.store(0);
    eat_bells(use.placeholder.get(), use.keep_bells ? 1 : 0);
  }
  if (events & (EPOLLHUP | EPOLLERR)) use.user->gone();
}

}  // namespace godwit
