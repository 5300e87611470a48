// epoll with virtual sockets in it. The program's epoll descriptor is real and serves real descriptors and
// listeners; a piece beside it holds the readiness of virtual sockets (tuplespace/shared/set.hh).
#pragma once
#include "wrapper/descriptors.hh"

namespace godwit::wrapper {

/// What our registrations carry as data in their upper 48 bits, so that bells can be told from the
/// program's events in what the kernel returns; random, so no program has it by chance.
uint64_t set_tag();

/// Results as of the system calls: >= 0 or a negative errno.
long set_control(int set, int operation, int fd, epoll_event* event);
long set_wait(int set, epoll_event* events, int capacity, int64_t timeout_ns, const sigset_t* mask);

/// Virtual entries of the set that are ready, for poll and select on the set itself.
bool set_ready(int set);

/// The description behind a number is about to change its kind (listen, kernel mode). What watched it is
/// taken out, and put back with watch_natively when the number stands for what the kernel shall watch.
struct NativeWatch {
  int set, fd;
  epoll_event event;
};
int stop_watching(Handle& handle, NativeWatch (&watches)[shared::kWatches]);
void watch_natively(const NativeWatch* watches, int count);

}  // namespace godwit::wrapper
