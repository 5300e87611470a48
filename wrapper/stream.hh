// Bytes through a connection: what read, write and their kin do once a descriptor is found to be ours.
// Results are counts or negative errno values.
#pragma once
#include "wrapper/descriptors.hh"

namespace godwit::wrapper {

/// Our addition to shared::EndFlag: the reset of this end has been told as an errno.
inline constexpr uint32_t kResetTold = 1 << 16;

/// flags: MSG_DONTWAIT, MSG_PEEK, MSG_WAITALL, MSG_TRUNC, MSG_OOB.
long receive(Handle& handle, const iovec* iov, int count, int flags);
/// flags: MSG_DONTWAIT, MSG_NOSIGNAL, MSG_OOB. Raises SIGPIPE as send(2) does.
long transmit(Handle& handle, const iovec* iov, int count, int flags);
/// Waits until the node's bridge has connected, or not. 0, -EINTR, or -EINPROGRESS after SO_SNDTIMEO.
long wait_for_bridge(Handle& handle);
/// shutdown(2).
long shut(Handle& handle, int how);

/// EPOLL* bits of a virtual socket in any state but listening.
uint32_t current_events(shared::Socket& socket, uint32_t side);
/// Looks whether the kernel says that the other end is gone; notes it. Cheap when looked at lately.
void probe_peer(Handle& handle, bool now = false);
/// The kernel has said so. returns whether that is news to who watches the end.
bool peer_gone(shared::Socket& socket, uint32_t side);

/// SO_ERROR: taken, not only read.
int take_error(shared::Socket& socket, uint32_t side);

/// The connection has ended in both directions, or by a reset.
bool is_over(Handle& handle);

/// Marks the sets that watch an end of ours, and wakes who sleeps in them.
void poke_own_watchers(Handle& handle);

inline uint64_t cycles() { return __builtin_ia32_rdtsc(); }

}  // namespace godwit::wrapper
