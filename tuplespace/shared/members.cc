#include "tuplespace/shared/members.hh"

#include <errno.h>
#include <sys/mman.h>

#include "tuplespace/shared/allocator.hh"
#include "tuplespace/shared/socket.hh"

namespace godwit::shared {
namespace {

// Ends of `pod` are gone; the piece is freed when no other pod has an end of it.
bool abandon(Socket& socket, uint64_t pod) {
  bool in_use = false;
  for (uint32_t side = 0; side < 2; ++side) {
    End& end = socket.ends[side];
    if (end.pod == pod)
      note_gone(socket, 1 - side);
    else if (end.pod != 0 && !(end.flags.load() & (kClosed | kGone)))
      in_use = true;
  }
  return !in_use;
}

// One run of the pod that nobody needs any more; 0 when there is none left.
Offset next_orphan(const Segment& segment, uint64_t pod) {
  Offset found = 0;
  for_each_run(segment, [&](Offset offset, const Chunk& chunk) {
    if (found) return;
    if (chunk.kind == RunKind::kSocket) {
      Socket& socket = *segment.at<Socket>(offset);
      bool ours = chunk.pod == pod || socket.ends[0].pod == pod || socket.ends[1].pod == pod;
      if (ours && abandon(socket, pod)) found = offset;
    } else if (chunk.kind == RunKind::kSet && chunk.pod == pod) {
      found = offset;
    }
  });
  return found;
}

void forget_listeners(Thread& self, uint64_t pod) {
  for (uint32_t i = 0; i < kListeners; ++i) {
    Listener& l = self.segment.header().listeners[i];
    if (l.state.load() == ListenerState::kLocal && l.pod == pod) remove_listener(self, l.id);
  }
}

}  // namespace

uint32_t find_pod(const Segment& segment, uint64_t pod) {
  for (uint32_t m = 1; m < kMembers; ++m) {
    const Member& member = segment.header().members[m];
    if (member.kind == MemberKind::kPod && member.pod == pod) return m;
  }
  return 0;
}

int add_pod(Thread& self, uint64_t pod, uint32_t* member, Thread* first) {
  Section section(self);
  Offset offset;
  if (int e = allocate(self, kAreaLength, RunKind::kArea, pod, &offset)) return e;
  Area* area = self.segment.at<Area>(offset);
  // A run that was used before: slots must begin as zeros, those without a page yet too.
  madvise(area, kAreaLength, MADV_REMOVE);
  if (reserve(area, kPage) != 0) {
    free_intent(self);
    return -ENOSPC;
  }
  area->slot_count.store(1);
  area->offset = offset;
  area->pod = pod;
  if (first && claim_slot(*first, area) != 0) {
    free_intent(self);
    return -ENOSPC;
  }
  lock(self, kDirectory);
  Member* members = self.segment.header().members;
  uint32_t m = 1;
  while (m < kMembers && members[m].kind != MemberKind::kFree) ++m;
  if (m < kMembers) {
    area->member = m;
    members[m].moving.store(0);
    set(self, &members[m].area, offset);
    set(self, &members[m].pod, pod);
    set(self, &members[m].kind, MemberKind::kPod);
    set(self, &self.segment.slot_of(self.owner()).intent, Offset{0});
    commit(self);
    *member = m;
  }
  unlock(self, kDirectory);
  if (m < kMembers) return 0;
  if (first) release_slot(*first);
  free_intent(self);
  return -EUSERS;
}

void remove_pod(Thread& self, uint64_t pod) {
  Section section(self);
  forget_listeners(self, pod);
  reap(self);
  while (Offset run = next_orphan(self.segment, pod)) {
    intend(self, run);
    free_intent(self);
  }
  remove_member(self, pod);
}

void remove_member(Thread& self, uint64_t pod) {
  Section section(self);
  lock(self, kReaper);  // nobody walks the area meanwhile
  lock(self, kDirectory);
  uint32_t m = find_pod(self.segment, pod);
  if (m) {
    Member& member = self.segment.header().members[m];
    set(self, &self.segment.slot_of(self.owner()).intent, member.area);
    set(self, &member.kind, MemberKind::kFree);
    commit(self);
  }
  unlock(self, kDirectory);
  unlock(self, kReaper);
  if (m) free_intent(self);
}

int add_process(Area& area, uint32_t pid, const void* control) {
  for (Process& process : area.processes) {
    uint32_t none = 0;
    // Claimed with a number that no process has, filled, then shown.
    if (!process.pid.compare_exchange_strong(none, ~0u)) continue;
    process.control = reinterpret_cast<uint64_t>(control);
    process.pid.store(pid, std::memory_order_release);
    return 0;
  }
  return -EUSERS;
}

}  // namespace godwit::shared
