// Puts the proxy vdso into a program at its exec, and points it to the vdso of the host that it is on.
#pragma once
#include <sys/types.h>

#include <cstdint>

#include "tuplespace/result.hh"

namespace godwit {

/// Maps the proxy into `pid` and makes AT_SYSINFO_EHDR of its auxiliary vector point to it.
///
/// pid     traced by the calling thread, stopped after an exec and before the first instruction of the
///         program: at PTRACE_EVENT_EXEC one must go on to the exit of the system call first (PTRACE_SYSCALL
///         and wait), since there the kernel still overwrites rax.
/// after   registers and stop are as before. On an error the program may run on, without a proxy.
Result<void> install_proxy_vdso(pid_t pid);

/// Address of the proxy in a process whose memory the caller may read; 0: it has none.
uint64_t find_proxy_vdso(pid_t pid);

/// Makes the proxy at `proxy` use the real vdso, whose ELF header is at `vdso` in the same process.
Result<void> point_proxy_vdso(pid_t pid, uint64_t proxy, uint64_t vdso);

}  // namespace godwit
