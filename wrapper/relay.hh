// The foreground half of `godwit run`: its stdin, stdout, stderr and signals are the pod's.
#pragma once
#include <signal.h>

#include <functional>

#include "tuplespace/posix/unique_fd.hh"

namespace godwit::wrapper {

/// Where the conversation goes on when the supervisor has hung up: the pod may have moved. An invalid descriptor: not now.
using FollowPod = std::function<UniqueFd()>;

/// The signals that are passed on: those that reach `godwit run` and are not ignored by it.
sigset_t relayed_signals();

/// Relays until the program has ended. Signals of relayed_signals() are blocked by the caller, SIGPIPE is ignored.
/// follow: may be empty. returns the exit status for `godwit run`; 125 if the pod is gone without one.
int relay(UniqueFd channel, const FollowPod& follow);

}  // namespace godwit::wrapper
