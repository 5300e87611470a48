// poll and select with virtual sockets among the descriptors.
#pragma once
#include "wrapper/descriptors.hh"

namespace godwit::wrapper {

/// Whether any of the descriptors needs us.
bool any_virtual(const pollfd* fds, nfds_t count);
bool any_virtual(int count, const fd_set* read, const fd_set* write, const fd_set* except);

/// timeout_ns < 0: none. mask: as ppoll's. returns as ppoll, or a negative errno.
long poll_all(pollfd* fds, nfds_t count, int64_t timeout_ns, const sigset_t* mask);
long select_all(int count, fd_set* read, fd_set* write, fd_set* except, int64_t timeout_ns, const sigset_t* mask);

}  // namespace godwit::wrapper
