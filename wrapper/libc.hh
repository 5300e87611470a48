// The real functions behind the names that we export: the next definition in the search order.
// Resolved at first use, because calls arrive before any constructor of ours; allocates nothing,
// because they may arrive inside malloc or a signal handler. Our own code calls libc().x, never ::x.
#pragma once
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>

namespace godwit::wrapper {

struct Libc {
#define CALL(name) decltype(&::name) name;
#define REAL(name) decltype(&::name) name;
#define ALIAS(alias, name)
#define TYPED(name)
#include "wrapper/calls.def"
#undef CALL
#undef REAL
};

extern Libc real_functions;
extern std::atomic<bool> real_functions_ready;
void resolve_real_functions();

inline const Libc& libc() {
  if (!real_functions_ready.load(std::memory_order_acquire)) [[unlikely]]
    resolve_real_functions();
  return real_functions;
}

}  // namespace godwit::wrapper

/// An exported function. Everything else in the library is hidden.
#define WRAPPER_EXPORT extern "C" __attribute__((visibility("default")))
/// A second exported name of a function defined in the same file.
#define WRAPPER_ALIAS(alias_name, name) \
  extern "C" __attribute__((visibility("default"), alias(#name))) decltype(name) alias_name
