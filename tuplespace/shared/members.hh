// The table of members: the host itself (0) and its pods, each with an area of slots.
#pragma once
#include "tuplespace/shared/thread.hh"

namespace godwit::shared {

/// Makes a member and its area for a pod. returns 0 with *member; -EUSERS: the table is full; -ENOSPC.
/// first: is given a slot of the area before anybody can see it, for a member that lives as long as this thread.
int add_pod(Thread& self, uint64_t pod, uint32_t* member, Thread* first = nullptr);

/// Takes a pod that has ended (or left) out of the segment: reaps its slots, closes its ends as the kernel
/// closes a killed process's sockets, and gives its runs back. None of its processes runs any more.
void remove_pod(Thread& self, uint64_t pod);

/// Takes only the pod's member and area out, for a pod whose sockets and sets are looked after otherwise.
void remove_member(Thread& self, uint64_t pod);

/// The member of a pod; 0 if it has none here.
uint32_t find_pod(const Segment& segment, uint64_t pod);

/// Registers the calling process in its pod's area, so that an engine finds its Control. returns 0 or -EUSERS.
int add_process(Area& area, uint32_t pid, const void* control);

}  // namespace godwit::shared
